"""A laptop that moves: the desktop's resolver changes, and that of the VM with it. The policy names the engine's proxy; ports are for all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from cofferdam.demo import IMAGE
from cofferdam.machine.channels import free_port
from cofferdam.machine.door import Door, connect
from cofferdam.paths import ROOT
from servers.company import KNOWN, Company, serve
from servers.nameserver import nameserver
from vmtest.flows import wait_until
from vmtest.machines import Machines
from vmtest.shop import docker
from vmtest.verbs import SMALL, inv, row

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may have a resolv.conf of its own, and answer at port 53"),
]

NAME = "office"
NAMED = ("--name", NAME)
HOST = "files.company.test"
ANSWERS = {"127.0.77.1": "192.0.2.1", "127.0.77.2": "192.0.2.2"}
OFFICE, HOME = ANSWERS
# QEMU stays in the mount namespace in which it was started.
_OWN_RESOLVER = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"')


@pytest.fixture(scope="module")
def company() -> Iterator[Company]:
    with serve({}) as made:
        yield made


@pytest.fixture(scope="module")
def resolver(machines: Machines, company: Company, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The resolv.conf of the desktop on which the instance runs."""
    machines.image("debug")
    directory = tmp_path_factory.mktemp("office")
    file, policy = directory / "resolv.conf", directory / "policy.json"
    file.write_text(f"nameserver {OFFICE}\n")
    proxy = {"mode": "manual", "http": company.seen_by_the_vm, "https": company.seen_by_the_vm}
    policy.write_text(json.dumps({"configurationFileVersion": 2, "containersProxy": proxy}))
    boot = ["boot", *NAMED, *SMALL, "--profile", "debug", "--no-activate", "--share", "none"]
    boot += ["--proxy", "none", "--policy", str(policy), "--publish", "0.0.0.0"]
    with ExitStack() as stack:
        for place, address in ANSWERS.items():
            try:
                stack.enter_context(nameserver(place, address))
            except OSError as error:
                pytest.skip(f"port 53 is not to be had: {error}")
        stack.callback(inv, "delete", *NAMED, "--data", "--yes")
        stack.callback(inv, "stop", *NAMED, "--force")
        words = [*_OWN_RESOLVER, str(file), sys.executable, "-m", "invoke", *boot]
        subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, check=True, timeout=600)
        yield file


@contextmanager
def engine() -> Iterator[Any]:
    """The instance's Docker."""
    found = row(NAME)
    client = connect(Door(found["docker_host"], Path(found["cert_path"])))
    try:
        yield client
    finally:
        client.close()


def said_at(place: str, port: int) -> bytes:
    """What a web server says; nothing when there is none."""
    with suppress(OSError), socket.create_connection((place, port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.makefile("rb").read()
    return b""


def asked() -> str:
    """What a container is told of the name."""
    return docker(NAME, "sh", "-c", f"nslookup -type=a {HOST} 2>&1 || true")


def test_names_are_those_of_the_desktops_resolver_also_after_it_has_changed(resolver: Path) -> None:
    assert ANSWERS[OFFICE] in asked()
    resolver.write_text(f"nameserver {HOME}\n")
    wait_until(lambda: ANSWERS[HOME] in asked(), "the other resolver is asked", seconds=60, pause=1)
    assert ANSWERS[OFFICE] not in asked()


def test_pulls_go_through_the_proxy_of_the_policy(resolver: Path, company: Company) -> None:
    """Whatever the desktop says: here it is that there is none."""
    with engine() as client, pytest.raises(APIError):
        client.api.pull(f"{KNOWN}/tool", "1")
    assert KNOWN in company.asked


def test_published_ports_listen_on_the_address_that_the_boot_names(resolver: Path) -> None:
    """An address at which nothing answers by default, see `test_ports`."""
    port = free_port()
    assert docker(NAME, "echo", "there is an image") == "there is an image"
    with engine() as client:
        command = ["busybox", "httpd", "-f", "-p", "8080", "-h", "/"]
        made = client.containers.run(IMAGE, command, ports={"8080/tcp": port}, detach=True)
        try:
            wait_until(lambda: said_at(OFFICE, port).startswith(b"HTTP/1."), "the port answers", seconds=60, pause=1)
        finally:
            made.remove(force=True)
