"""Published ports on the desktop, and the desktop as containers see it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cofferdam.machine import api
from cofferdam.machine.instance import Instance
from vmtest.flows import box, wait_until
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

WEB = ("sh", "-c", "mkdir /w; hostname >/w/name; exec httpd -f -p 8080 -h /w")
UDP_ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 9000))
while True:
    data, peer = s.recvfrom(2000)
    s.sendto(data.upper(), peer)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, address: str = "127.0.0.1") -> str:
    """A file by HTTP, from the desktop; empty when nobody answers."""
    try:
        with socket.create_connection((address, port), timeout=20) as connection:
            connection.sendall(b"GET /name HTTP/1.0\r\n\r\n")
            answer = connection.makefile("rb").read()
    except OSError:
        return ""
    return str(answer.partition(b"\r\n\r\n")[2].decode().strip())


def served(port: int) -> None:
    wait_until(lambda: fetch(port) != "", f"port {port} answers on the desktop", seconds=90)


def silent(port: int) -> None:
    wait_until(lambda: fetch(port) == "", f"port {port} is closed on the desktop", seconds=90)


@contextmanager
def listening() -> Iterator[int]:
    """A program of the desktop that has a port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_port_comes_and_goes_with_its_container(vm: Vm) -> None:
    port = free_port()
    with box(vm, "-p", f"{port}:8080", command=WEB) as made:
        served(port)
        assert fetch(port) == made.exec("hostname").strip()
        vm.succeed("stop", "--time", "1", made.name)
        silent(port)
        vm.succeed("start", made.name)
        served(port)
    silent(port)


def test_port_is_on_the_loopback_alone_whatever_is_asked_for(vm: Vm) -> None:
    port = free_port()
    with box(vm, "-p", f"0.0.0.0:{port}:8080", command=WEB):
        served(port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            own = probe.getsockname()[0]
        if own.startswith("127."):
            pytest.skip("this machine has no other address")
        assert fetch(port, own) == ""


def test_ranges_and_random_ports(vm: Vm) -> None:
    first = free_port()
    with box(vm, "-p", f"{first}-{first + 1}:8080-8081", "-p", "8080", command=WEB) as made:
        served(first)
        random = int(vm.succeed("port", made.name, "8080/tcp").splitlines()[-1].rpartition(":")[2])
        assert {int(line.rpartition(":")[2]) for line in vm.succeed("port", made.name, "8080/tcp").splitlines()} >= {
            first,
            random,
        }
        served(random)


def test_udp(vm: Vm) -> None:
    port = free_port()
    with box(vm, "-p", f"{port}:9000/udp", image="debian", command=("python3", "-c", UDP_ECHO)):

        def echoed() -> bool:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(2)
                client.connect(("127.0.0.1", port))
                with contextlib.suppress(OSError):
                    client.send(b"ping")
                    return client.recv(100) == b"PING"
            return False

        wait_until(echoed, "the datagram comes back", seconds=90)


def test_port_in_use_on_the_desktop_is_said_so_by_docker_run(vm: Vm) -> None:
    name = vm.name("taken")
    with listening() as port:
        vm.fail("run", "-d", "--name", name, "-p", f"{port}:8080", vm.image("busybox"), *WEB, match=f"{port} failed: .*in use")
        assert vm.succeed("inspect", "--format", "{{.State.Running}}", name).strip() == "false"
    vm.succeed("start", name)
    served(port)


def test_doors_of_the_instance_are_not_taken(vm: Vm) -> None:
    """`docker run --rm` ends, and leaves no container behind, although it was refused at its start."""
    door, name = int(vm.report.docker_host.rpartition(":")[2]), vm.name("door")
    vm.fail("run", "--rm", "--name", name, "-p", f"{door}:8080", vm.image("busybox"), "true", match=f"{door} failed")
    vm.fail("inspect", name, match="[Nn]o such")


def keeper(vm: Vm) -> int:
    """Process id of the instance's keeper, which works in the instance's directory; 0 when there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"cofferdam.machine.ports.keeper" in words and (process / "cwd").samefile(Instance(vm.instance).directory):
                return int(process.name)
    return 0


def test_killed_keeper_comes_back_with_the_next_status(vm: Vm) -> None:
    port = free_port()
    with box(vm, "-p", f"{port}:8080", command=WEB):
        served(port)
        killed, instance = keeper(vm), Instance(vm.instance)
        os.kill(killed, signal.SIGKILL)
        # A process that ends loses its words before its locks.
        wait_until(lambda: keeper(vm) == 0 and not instance.keeper_lock.held_by_another(), "the keeper is gone", seconds=20)
        row = api.status(vm.instance)[0]
        assert [each["host_port"] for each in row["ports"]] == [port], (row.get("note"), instance.keeper_log.read_text())
        assert keeper(vm) not in (0, killed)
        served(port)
    silent(port)


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from the desktop\n")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("name", ["host.docker.internal", "gateway.docker.internal"])
def test_desktop_has_a_name_in_containers(vm: Vm, name: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://{name}:{server.server_port}/"
            assert vm.run(command=["wget", "-q", "-O", "-", url]) == "from the desktop\n"
        finally:
            server.shutdown()


def test_host_gateway_is_the_desktop(vm: Vm) -> None:
    hosts = vm.run("--add-host", "desk:host-gateway", command=["cat", "/etc/hosts"])
    assert ["10.0.2.2", "desk"] in [line.split() for line in hosts.splitlines()]


# Reads "ADDRESS PORT" lines and prints those that it can connect to.
REACH = """
import socket, sys
for line in sys.stdin:
    address, port = line.split()
    try:
        socket.create_connection((address, int(port)), 4).close()
        print(line.strip())
    except OSError:
        pass
"""


def test_control_ports_of_the_machine_cannot_be_reached_from_containers(vm: Vm) -> None:
    """Another container's port can: it shows that the probe works."""
    doors = [f"{address} {port}" for address in ("10.0.2.15", "172.17.0.1") for port in (22, 2375, 2376)]
    with box(vm, command=WEB) as other:
        control = f"{other.inspect('{{.NetworkSettings.IPAddress}}')} 8080"
        lines = "\n".join([*doors, control, ""]).encode()
        reached = lambda: vm.run("-i", image="debian", command=["python3", "-c", REACH], input=lines).splitlines()  # noqa: E731
        wait_until(lambda: reached() == [control], "only the other container is reached", seconds=60)
