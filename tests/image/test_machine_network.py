"""A machine in a company's network: its proxy, its certificate authority, small packets; and tools that insist on a Unix socket."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cofferdam.machine import api
from servers.company import KNOWN, PAGE, UNKNOWN, Authority, Company, serve
from vmtest.flows import network
from vmtest.machines import Machines
from vmtest.vm import Vm

pytestmark = [pytest.mark.vm, pytest.mark.slow]

MTU = 1400


@dataclass(frozen=True)
class Networked:
    """The machine, the company, the path of the socket, and docker's current context before the boot."""

    vm: Vm
    company: Company
    socket: Path
    before: str


@pytest.fixture(scope="module")
def networked(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Networked]:
    directory = tmp_path_factory.mktemp("company")
    ours, others = Authority(directory, "company"), Authority(directory, "others")
    path = machines.directory / "docker.sock"
    before = machines.current_context()
    with serve({KNOWN: ours.server(KNOWN), UNKNOWN: others.server(UNKNOWN)}) as company:
        options = {"memory": "1G", "mtu": str(MTU), "proxy": f"http://127.0.0.1:{company.port}"}
        with machines.extra("network", "debug", socket=path, ca_files=(ours.file,), **options) as vm:
            yield Networked(vm, company, path, before)


def test_pulls_go_through_the_proxy_and_trust_the_companys_authority(networked: Networked) -> None:
    """The registry's own answer arrives; it names a host that no resolver knows."""
    networked.vm.fail("pull", f"{KNOWN}/tool:1", match="not found|manifest unknown")
    assert KNOWN in networked.company.asked
    assert (KNOWN, "/v2/tool/manifests/1") in networked.company.paths


def test_another_authority_is_not_trusted(networked: Networked) -> None:
    networked.vm.fail("pull", f"{UNKNOWN}/tool:1", match="x509: certificate signed by unknown authority")
    assert not [path for host, path in networked.company.paths if host == UNKNOWN]


def test_containers_and_builds_have_the_proxy_of_the_clients_configuration(networked: Networked, tmp_path: Path) -> None:
    """As Docker documents: `proxies` there become variables of each container and each step of a build."""
    vm, company, address = networked.vm, networked.company, networked.company.seen_by_the_vm
    settings = json.loads((vm.program.config / "config.json").read_text())
    settings["proxies"] = {"default": {"httpProxy": address, "httpsProxy": address}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    by_proxy = vm.with_environment({"DOCKER_CONFIG": str(tmp_path)})
    assert by_proxy.run(command=("wget", "-qO-", "http://container.company.test/")) == PAGE.decode()
    recipe = f"FROM {vm.image('busybox')}\nRUN wget -qO /page http://build.company.test/\n"
    made = by_proxy.succeed("build", "--quiet", "-", input=recipe.encode()).strip()
    assert vm.succeed("run", "--rm", made, "cat", "/page") == PAGE.decode()
    assert {"container.company.test", "build.company.test"} <= set(company.asked)


def test_containers_may_have_the_authorities_and_not_change_them(networked: Networked) -> None:
    vm = networked.vm
    options = ("-v", "/run/cofferdam/ca.pem:/etc/ssl/cert.pem:ro")
    script = "grep -c BEGIN /etc/ssl/cert.pem; echo x >>/etc/ssl/cert.pem || echo refused"
    count, refused = vm.run(*options, command=("sh", "-c", f"({script}) 2>/dev/null")).split()
    assert int(count) == 1 + int(vm.shell("grep -c BEGIN /etc/ssl/certs/ca-certificates.crt"))
    assert refused == "refused"
    vm.fail("run", "--rm", "-v", "/run/cofferdam/ca.pem:/x", vm.image("busybox"), "true", match="restricted host mount")


def test_packets_are_no_larger_than_asked(networked: Networked) -> None:
    vm, read = networked.vm, ("cat", "/sys/class/net/eth0/mtu")
    assert vm.shell("cat /sys/class/net/eth0/mtu").strip() == str(MTU)
    assert vm.run(command=read).strip() == str(MTU)
    with network(vm) as name:
        assert vm.run("--network", name, command=read).strip() == str(MTU)


def test_the_socket_is_docker_for_tools_that_want_one(networked: Networked) -> None:
    """Without certificates; what is sent to its end arrives, and the answer after it."""
    mode = networked.socket.lstat()
    assert stat.S_ISSOCK(mode.st_mode) and stat.S_IMODE(mode.st_mode) == 0o600 and mode.st_uid == os.getuid()
    variables = {"DOCKER_HOST": f"unix://{networked.socket}", "DOCKER_TLS_VERIFY": "", "DOCKER_CERT_PATH": ""}
    by_socket = networked.vm.with_environment(variables)
    data = os.urandom(300_000)
    said = by_socket.run("-i", command=("sh", "-c", "wc -c; echo end"), input=data)
    assert said.split() == ["300000", "end"]


def test_the_context_is_current_until_the_machine_stops(machines: Machines, networked: Networked) -> None:
    """The last row: the machine is stopped. The socket is gone with it, and docker's former context is back."""
    assert machines.current_context() == "cofferdam-network" != networked.before
    networked.vm.close()
    api.stop("network")
    assert machines.current_context() == networked.before
    assert not networked.socket.exists()
