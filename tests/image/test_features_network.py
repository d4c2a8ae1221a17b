"""Networks: user networks, names, isolation between containers, published ports, and containers that join another's network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vmtest.flows import Box, box, network, wait_until
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

SERVE = ("sh", "-ec", "mkdir /www; hostname >/www/name; exec httpd -f -p 8080 -h /www")
OUTSIDE = "10.0.2.2"
FETCH_IN_VM = "python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode(), end=\"\")'"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from outside\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    """The address, as seen from the VM, of a web server outside of it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://{OUTSIDE}:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


def address(made: Box) -> str:
    return made.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}").split()[0]


@pytest.fixture(scope="module")
def server(vm: Vm) -> Iterator[Box]:
    """A web server on the default bridge with a published port."""
    with box(vm, "--publish", "8080", "--hostname", "served", command=SERVE) as made:
        yield made


def test_published_port_is_reachable_in_the_vm(vm: Vm, server: Box) -> None:
    port = vm.succeed("port", server.name, "8080/tcp").split("\n")[0].rsplit(":", 1)[1]
    for host in ("10.0.2.15", "127.0.0.1"):
        assert vm.shell(f"{FETCH_IN_VM} http://{host}:{port}/name").strip() == "served"


@pytest.mark.isolation(why="the joining container is in the same range, and /sys shows that one network, never the VM's")
def test_joined_network(vm: Vm, server: Box) -> None:
    with box(vm, "--network", f"container:{server.name}") as made:
        assert made.base == server.base > 0
        assert made.sh("readlink /proc/self/ns/user; readlink /proc/self/ns/net") == server.sh(
            "readlink /proc/self/ns/user; readlink /proc/self/ns/net"
        )
        assert made.sh("ls /sys/class/net").split() == ["eth0", "lo"]
        assert made.sh("wget -q -O - http://127.0.0.1:8080/name; hostname").split() == ["served", "served"]
        made.sh("echo x >/file; test $(stat -c %u /file) = 0")


@pytest.mark.both
def test_joined_network_shows_no_other_interface(vm: Vm, server: Box) -> None:
    """Neither in /sys, nor for a privileged container that mounts a sysfs of its own."""
    script = "ls /sys/class/net /sys/devices/virtual/net; mkdir /s; mount -t sysfs s /s && ls /s/class/net; true"
    output = vm.succeed(
        "run", "--rm", "--privileged", "--network", f"container:{server.name}", vm.image("busybox"), "sh", "-c", script
    )
    assert {word for word in output.split() if not word.startswith("/")} <= {"eth0", "lo"}
    assert "eth0" in output


def test_range_of_a_joined_network_lives_as_long_as_a_user_of_it(vm: Vm) -> None:
    """The first container ends, the joined one goes on: its range is not given to a third."""
    with box(vm, command=SERVE) as first, box(vm, "--network", f"container:{first.name}") as second:
        base = second.base
        assert base == first.base
        first.remove()
        with box(vm) as third:
            assert third.base != base
            assert second.base == base
            second.sh("echo x >/still-writable")


def test_user_network_has_names(vm: Vm) -> None:
    with network(vm) as net, ExitStack() as stack:
        web = stack.enter_context(box(vm, "--network", net, "--network-alias", "web", "--hostname", "web", command=SERVE))
        client = stack.enter_context(box(vm, "--network", net))
        wait_until(
            lambda: (
                vm.docker("exec", client.name, "wget", "-q", "-O", "-", "http://web:8080/name", check=False).stdout == "web\n"
            ),
            "the name web",
        )
        assert client.sh(f"wget -q -O - http://{web.name}:8080/name") == "web"
        vm.succeed("network", "disconnect", net, client.name)
        client.refuses("wget -q -T 5 -O - http://web:8080/name", match="bad address|unreachable")
        vm.succeed("network", "connect", net, client.name)
        assert client.sh("wget -q -O - http://web:8080/name; ls /sys/class/net").split()[0] == "web"


def test_default_bridge_containers_reach_each_other_and_outside(vm: Vm, server: Box, outside: str) -> None:
    script = f"wget -q -T 20 -O - http://{address(server)}:8080/name; wget -q -T 20 -O - {outside}"
    assert vm.succeed("run", "--rm", vm.image("busybox"), "sh", "-ec", script).split("\n")[:2] == ["served", "from outside"]


@pytest.mark.both
def test_no_traffic_between_containers(vm: Vm, outside: str) -> None:
    with network(vm, "-o", "com.docker.network.bridge.enable_icc=false") as net, ExitStack() as stack:
        web, other = (stack.enter_context(box(vm, "--network", net, command=SERVE)) for _ in range(2))
        for one, peer in ((web, other), (other, web)):
            assert one.sh(f"wget -q -T 20 -O - http://{address(one)}:8080/name") != ""
            one.refuses(f"wget -q -T 4 -O - http://{address(peer)}:8080/name", match="timed out|unreachable|refused")
            assert one.sh(f"wget -q -T 20 -O - {outside}") == "from outside"


def test_no_network_and_internal_network(vm: Vm, outside: str) -> None:
    alone = vm.succeed(
        "run",
        "--rm",
        "--network",
        "none",
        vm.image("busybox"),
        "sh",
        "-c",
        f"ls /sys/class/net; wget -q -T 4 -O - {outside} || echo closed",
    )
    assert alone.split() == ["lo", "closed"]
    with network(vm, "--internal") as net:
        script = f"ls /sys/class/net; wget -q -T 4 -O - {outside} || echo closed"
        assert vm.succeed("run", "--rm", "--network", net, vm.image("busybox"), "sh", "-c", script).split() == [
            "eth0",
            "lo",
            "closed",
        ]


def test_container_cannot_reach_the_engine(vm: Vm) -> None:
    """Neither the Docker API nor ssh of the VM answers on any address a container can name."""
    gateway = vm.succeed("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    script = "; ".join(
        f"nc -w 4 {host} {port} </dev/null >/dev/null 2>&1 && echo open {host}:{port}"
        for host in (gateway, "10.0.2.15")
        for port in (22, 2376)
    )
    assert vm.succeed("run", "--rm", vm.image("busybox"), "sh", "-c", f"{script}; true").strip() == ""
