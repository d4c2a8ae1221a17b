"""A machine under a company's policy: images from one registry only, one of which may have the Docker socket, with a command list.

The registry is Debian's, in a container of the same machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cofferdam.machine import api
from cofferdam.policy import read_policy
from vmtest.flows import new_name, shifted_base, wait_until
from vmtest.machines import Machines
from vmtest.vm import ENGINE, Vm

pytestmark = pytest.mark.vm

REGISTRY = "127.0.0.1:5000"
TOOLS = f"{REGISTRY}/tools:1"
SOCKET = ("-v", "/var/run/docker.sock:/var/run/docker.sock")
POLICY = {
    "configurationFileVersion": 2,
    "enhancedContainerIsolation": {
        "locked": True,
        "value": True,
        "dockerSocketMount": {
            "imageList": {"images": [f"{REGISTRY}/tools:*"], "allowDerivedImages": True},
            "commandList": {"type": "deny", "commands": ["push", "build*", "logs"]},
        },
    },
    "blockDockerLoad": {"locked": True, "value": True},
    "cofferdam": {
        "registries": {"locked": True, "allowed": [REGISTRY]},
        "restrictedMounts": {"locked": True, "allowReadOnly": ["/usr/lib/os-release"]},
    },
}
DENIED = r'docker socket mount denied for container with image "{}"; image is not in the allowed list'

# Speaks HTTP to the socket: METHOD TARGET [BODY]; prints the status and the body.
CLIENT = """
import json, socket, sys
method, target, body = (*sys.argv[1:], "")[:3]
s = socket.socket(socket.AF_UNIX)
s.connect("/var/run/docker.sock")
s.sendall(f"{method} {target} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Type: application/json\\r\\n"
          f"Content-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
data = s.makefile("rb").read()
head, _, rest = data.partition(b"\\r\\n\\r\\n")
if b"chunked" in head.lower():
    chunked, rest = rest, b""
    while chunked:
        size, _, chunked = chunked.partition(b"\\r\\n")
        rest, chunked = rest + chunked[: int(size, 16)], chunked[int(size, 16) + 2 :]
print(head.split()[1].decode(), rest.decode())
"""


@pytest.fixture(scope="module")
def company(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """The machine, its registry filled."""
    file = tmp_path_factory.mktemp("policy") / "admin-settings.json"
    file.write_text(json.dumps(POLICY), encoding="utf-8")
    read_policy(file).require_good()
    with machines.extra("company", "debug", memory="2G", policy=str(file)) as vm:
        # past the policy, which blocks `docker load` and every other source of images
        for kind in ("busybox", "debian", "registry"):
            vm.boundary.image(kind)
        serve = ("/usr/bin/docker-registry", "serve", "/registry.yml")
        vm.succeed("run", "--detach", "--name", "registry", "-p", "5000:5000", vm.image("registry"), *serve)
        answers = lambda: "refused" not in vm.docker("pull", f"{REGISTRY}/nothing", check=False).stderr  # noqa: E731
        wait_until(answers, "the registry answers")
        vm.succeed("tag", vm.image("debian"), TOOLS)
        vm.succeed("push", TOOLS, timeout=600)
        vm.succeed("run", "--detach", "--name", "client", *SOCKET, TOOLS, "sleep", "100000")
        yield vm


def ask(vm: Vm, method: str, target: str, body: str = "", image: str = "") -> tuple[int, str]:
    """One request on the socket: in the container that has it, or in a new one of an image."""
    where = ("run", "--rm", *SOCKET, image) if image else ("exec", "client")
    text = vm.succeed(*where, "python3", "-c", CLIENT, method, target, *([body] if body else []))
    status, _, rest = text.partition(" ")
    return int(status), rest


def test_allowed_image_has_the_socket(company: Vm) -> None:
    status, body = ask(company, "GET", "/v1.43/containers/json")
    assert status == 200
    assert "/registry" in [name for container in json.loads(body) for name in container["Names"]]


def test_other_images_have_not(company: Vm) -> None:
    match = DENIED.format("docker.io/cofferdam-test/busybox")
    company.fail("run", "--rm", *SOCKET, company.image("busybox"), "true", match=match)
    # the same content by another name is the same image
    assert ask(company, "GET", "/_ping", image=company.image("debian"))[0] == 200


def test_wrapper_asks_when_the_proxy_is_bypassed(company: Vm) -> None:
    """Straight to dockerd: what is refused at the door is refused by the runtime, and what is allowed is allowed."""
    busybox = company.image("busybox")
    match = "OCI runtime create failed.*" + DENIED.format("docker.io/cofferdam-test/busybox")
    company.boundary.fail("run", "--rm", "-v", "/run/docker.sock:/s", busybox, "true", match=match)
    company.boundary.fail("run", "--rm", "-v", f"{ENGINE}:/s", TOOLS, "true", match="restricted host mount")
    assert company.boundary.succeed("run", "--rm", *SOCKET, TOOLS, "python3", "-c", CLIENT, "GET", "/_ping").startswith("200 ")


BLOCKED = {
    "push": ("POST", "/v1.43/images/myimage/push?tag=latest"),
    "build": ("POST", "/v1.43/build"),
    "session": ("POST", "/session"),
    "grpc": ("POST", "/grpc"),
    "builder prune": ("POST", "/build/prune"),
    "logs": ("GET", "/containers/registry/logs?stdout=1"),
}


@pytest.mark.parametrize("command", BLOCKED)
def test_command_list(company: Vm, command: str) -> None:
    method, target = BLOCKED[command]
    status, body = ask(company, method, target)
    assert status == 403
    message = json.loads(body)["message"]
    assert message.startswith(f'enhanced container isolation: docker command "{target}" is blocked')


def test_command_list_is_not_the_desktops(company: Vm) -> None:
    company.succeed("logs", "registry")


def test_siblings_are_isolated_and_restricted_alike(company: Vm) -> None:
    """The pattern of Testcontainers and LocalStack: a container that starts others."""
    name = company.name("sibling")
    wanted = {"Image": company.image("busybox"), "Cmd": ["sleep", "1000"], "HostConfig": {"Privileged": True, "Runtime": "runc"}}
    assert ask(company, "POST", f"/v1.43/containers/create?name={name}", json.dumps(wanted))[0] == 201
    assert ask(company, "POST", f"/v1.43/containers/{name}/start")[0] == 204
    shifted_base(company.succeed("exec", name, "cat", "/proc/1/uid_map"))
    for host in ({"Binds": ["/etc:/x"]}, {"Binds": ["/var/run/docker.sock:/s"]}, {"PidMode": "host"}, {"NetworkMode": "host"}):
        status, body = ask(company, "POST", "/v1.43/containers/create", json.dumps({**wanted, "HostConfig": host}))
        assert status == 403, (host, body)


def test_retagged_image_is_still_what_it_is(company: Vm) -> None:
    company.succeed("rmi", TOOLS)
    company.succeed("tag", company.image("busybox"), TOOLS)
    try:
        company.fail("run", "--rm", *SOCKET, TOOLS, "true", match=DENIED.format(f"{REGISTRY}/tools"))
    finally:
        company.succeed("rmi", TOOLS)
        company.succeed("pull", "--quiet", TOOLS, timeout=600)
    assert ask(company, "GET", "/_ping", image=TOOLS)[0] == 200


def test_derived_image(company: Vm, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {TOOLS}\nRUN touch /made\n", encoding="utf-8")
    name = f"{new_name('derived')}:1"
    company.succeed("build", "--quiet", "-t", name, str(tmp_path), timeout=600)
    assert ask(company, "GET", "/_ping", image=name)[0] == 200


@contextmanager
def stopped(vm: Vm, name: str) -> Iterator[None]:
    vm.succeed("stop", "--time", "0", name)
    try:
        yield
    finally:
        vm.succeed("start", name)


def test_offline_and_after_a_restart_of_the_proxy(company: Vm) -> None:
    """A container keeps the socket it has; a new one is judged by what was known last."""
    with stopped(company, "registry"):
        company.shell("systemctl restart cofferdam-apiproxy.service")
        assert ask(company, "GET", "/_ping", image=TOOLS)[0] == 200
        assert ask(company, "GET", "/_ping")[0] == 200


def test_load_is_blocked(company: Vm) -> None:
    company.fail("load", input=b"", match="(?i)load")


def test_other_registries_are_refused(company: Vm) -> None:
    words = "registry access to registry.example.com is not allowed"
    company.fail("pull", "registry.example.com/x/y", match=words)
    company.succeed("tag", company.image("busybox"), "registry.example.com/x/y")
    company.fail("push", "registry.example.com/x/y", match=words)
    company.succeed("rmi", "registry.example.com/x/y")


BUILDS = {"from": "FROM registry.example.com/x/y\n", "add": f"FROM {TOOLS}\nADD http://registry.example.com/file /\n"}


@pytest.mark.parametrize("kind", BUILDS)
def test_builds_reach_no_other_registry(company: Vm, tmp_path: Path, kind: str) -> None:
    (tmp_path / "Dockerfile").write_text(BUILDS[kind], encoding="utf-8")
    company.fail("build", str(tmp_path), match="registry access to registry.example.com is not allowed|403", timeout=600)


def test_further_mount_is_read_only(company: Vm) -> None:
    assert "Debian" in company.run("-v", "/usr/lib/os-release:/x:ro", command=("cat", "/x"))
    company.fail("run", "--rm", "-v", "/usr/lib/os-release:/x", company.image("busybox"), "true", match="restricted host mount")


def test_policy_is_named_everywhere(company: Vm) -> None:
    digest = api.status("company")[0]["policy"]["sha256"]
    info = json.loads(company.succeed("info", "--format", "{{json .}}"))
    assert f"name=cofferdam,isolation=kernel,policy=sha256:{digest}" in info["SecurityOptions"]
    assert f"cofferdam.policy={digest[:12]}" in info["Labels"]


BROKEN = {"cut-off": "{", "empty": "", "other": "[]", "missing": None}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_policy_at_run_time_denies_everything_and_says_why(company: Vm, kind: str) -> None:
    """CVE-2025-10657: never 'no policy'. Containers are refused by the wrapper too, past the proxy."""
    directory, restart = "/run/cofferdam/policy", "systemctl restart cofferdam-apiproxy.service"
    text = BROKEN[kind]
    company.shell(f"mount -t tmpfs tmpfs {directory}")
    if text is not None:
        company.shell(f"printf %s '{text}' | tee {directory}/effective.json >{directory}/engine.json")
    company.shell(restart)
    try:
        company.fail("ps", match=f"no usable policy: {directory}/effective.json")
        company.fail("run", "--rm", company.image("busybox"), "true", match="no usable policy")
        company.boundary.fail("run", "--rm", company.image("busybox"), "true", match="no usable settings")
        assert "no usable policy" in json.dumps(json.loads(company.succeed("info", "--format", "{{json .Warnings}}")))
    finally:
        company.shell(f"umount {directory}; {restart}")
    wait_until(lambda: company.docker("ps", check=False).returncode == 0, "the policy holds again")
