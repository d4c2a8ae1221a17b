"""The port keeper as a process: real QEMU, real sockets; dockerd's part is a server that tells which containers run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cofferdam import verbs
from cofferdam.machine import api, launch
from cofferdam.machine.channels import free_port
from cofferdam.machine.cmdline import DESKTOP_PORTS_PORT
from cofferdam.machine.credentials import ensure_credentials
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.instance import Instance
from cofferdam.machine.ports.start import ensure_keeper
from cofferdam_guest.apiproxy.publish import PORT_NAME, DesktopPorts
from servers.containers import DockerServer, container
from unit.host.machine.conftest import keeper_pid

PATIENCE = 60.0


class World:
    """A running instance: QEMU, Docker's door, and its keeper."""

    def __init__(self, instance, record, qemu) -> None:
        self.instance, self.qemu = instance, qemu
        credentials = ensure_credentials(instance.credentials, instance.name)
        self._smbios = credentials.smbios[0].parent
        self.docker = DockerServer(0, self._smbios)
        self.port = self.docker.server_address[1]
        record.docker_port, record.ssh_port, record.ready, record.pid = self.port, qemu.door, True, qemu.process.pid
        record.qmp, record.keeper_qmp, record.desktop_ports = (str(instance.socket(kind)) for kind in ("qmp", "keeper", "ports"))
        instance.write_record(record)

    def restart_docker(self) -> None:
        containers = self.docker.containers
        self.docker.close()
        self.docker = DockerServer(self.port, self._smbios)
        self.docker.containers = containers

    def forwards(self) -> set[str]:
        return set(self.qemu.forwards()) - {f"tcp:127.0.0.1:{self.qemu.door}"}

    def comes_to(self, *forwards: str) -> bool:
        return wait_until(lambda: self.forwards() == set(forwards), PATIENCE)

    def row(self) -> dict:
        (row,) = api.status("box")
        return row

    def keeper_pid(self) -> int:
        return keeper_pid(self.instance)


@pytest.fixture
def world(instance, record, qemu) -> Iterator[World]:
    made = World(instance, record, qemu)
    yield made
    qemu.end()
    made.docker.close()
    assert wait_until(lambda: launch.reap() == 0, PATIENCE), "the keeper outlives QEMU"


def busy() -> tuple[socket.socket, int]:
    other = socket.create_server(("127.0.0.1", 0))
    return other, other.getsockname()[1]


def test_ports_come_and_go_with_containers(world):
    a, b, c = free_port(), free_port(), free_port()
    world.docker.run(container("early", a))
    assert ensure_keeper(world.instance) == []
    assert world.forwards() == {f"tcp:127.0.0.1:{a}"}, "what ran before is there when the start returns"
    world.docker.run(container("early", a), container("dns", b, c, proto="udp"))
    assert world.comes_to(f"tcp:127.0.0.1:{a}", f"udp:127.0.0.1:{b}", f"udp:127.0.0.1:{c}")
    assert wait_until(lambda: len(world.row()["ports"]) == 3, PATIENCE)
    assert {"proto": "tcp", "host_port": a, "container": "early", "state": "open", "reason": ""} in world.row()["ports"]
    assert "note" not in world.row()
    world.docker.run()
    assert world.comes_to()
    assert wait_until(lambda: world.row()["ports"] == [], PATIENCE)


def test_a_refused_port_is_told_and_had_later(world, capsys):
    other, port = busy()
    with other:
        world.docker.run(container("web", port))
        assert ensure_keeper(world.instance) == []
        (row,) = world.row()["ports"]
        assert (row["state"], row["container"], row["host_port"]) == ("refused", "web", port)
        verbs.status("box")
        shown = capsys.readouterr().out
        assert f"note: box: container web is not reachable there: port {port}/tcp of the desktop is in use" in shown
        assert "choose another port" in shown
        assert wait_until(lambda: world.docker.lists() > 1, PATIENCE), "it listens to events, and has looked once more"
    assert world.comes_to(f"tcp:127.0.0.1:{port}"), "it is tried again without any event"
    assert wait_until(lambda: world.row()["ports"][0]["state"] == "open", PATIENCE)


def test_a_killed_keeper_comes_back_with_status(world):
    a, b = free_port(), free_port()
    world.docker.run(container("web", a))
    ensure_keeper(world.instance)
    first = world.keeper_pid()
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: not world.instance.keeper_lock.held_by_another(), PATIENCE)
    world.docker.run(container("web", b))
    assert [port["host_port"] for port in world.row()["ports"]] == [b]
    assert world.forwards() == {f"tcp:127.0.0.1:{b}"}, "what the killed one left open is closed"
    assert world.keeper_pid() != first


def test_there_is_one_keeper(world):
    ensure_keeper(world.instance)
    first = world.keeper_pid()
    assert ensure_keeper(world.instance) == []
    assert world.keeper_pid() == first


def test_commands_that_find_it_gone_at_once_start_one(world):
    """Each of them sees the ports: none takes away what the keeper of another has told."""
    port = free_port()
    world.docker.run(container("web", port))

    def row(number: int) -> dict[str, object]:
        time.sleep(number / 10)
        return world.row()

    with ThreadPoolExecutor(20) as pool:
        rows = list(pool.map(row, range(20)))
    assert [[each["host_port"] for each in row["ports"]] for row in rows] == [[port]] * 20
    assert not world.instance.keeper_log.with_suffix(".log.old").exists(), "a second one was started"


def test_it_ends_with_qemu(world):
    ensure_keeper(world.instance)
    assert wait_until(lambda: world.docker.lists() > 1, PATIENCE), "from here on it only waits"
    time.sleep(0.5)
    world.qemu.process.kill()
    assert wait_until(lambda: not world.instance.keeper_lock.held_by_another(), PATIENCE)
    assert not world.instance.published.exists()


def test_lists_are_read_over_one_connection(world):
    """One for the events and one for all lists: each costs the guest a handshake."""
    ensure_keeper(world.instance)
    for number in range(3):
        seen = world.docker.lists()
        world.docker.run(container("web", free_port()))
        assert wait_until(lambda seen=seen: world.docker.lists() > seen, PATIENCE), number
    assert len(world.docker.connections) == 2


def test_docker_may_restart(world):
    a, b = free_port(), free_port()
    world.docker.run(container("web", a))
    ensure_keeper(world.instance)
    world.restart_docker()
    assert world.forwards() == {f"tcp:127.0.0.1:{a}"}
    assert wait_until(lambda: any("/events" in path for path in world.docker.requests), PATIENCE)
    world.docker.run(container("web", b))
    assert world.comes_to(f"tcp:127.0.0.1:{b}")


def test_a_connection_that_is_lost_is_no_news(world):
    port = free_port()
    world.docker.run(container("web", port))
    world.docker.drops = 1
    assert ensure_keeper(world.instance) == []
    row = world.row()
    assert [each["host_port"] for each in row["ports"]] == [port] and "note" not in row


def test_without_docker_nothing_changes_and_status_says_so(world):
    world.docker.close()
    assert ensure_keeper(world.instance) == []
    assert "may be out of date: Docker does not say what it runs" in world.row()["note"]


def test_a_start_that_does_not_work_is_a_note(world):
    record = world.instance.record
    record.keeper_qmp = "/nowhere/qmp"
    world.instance.write_record(record)
    (note,) = ensure_keeper(world.instance)
    assert str(world.instance.keeper_log) in note
    assert "/nowhere/qmp" in world.instance.keeper_log.read_text() or "ConnectError" in world.instance.keeper_log.read_text()


def test_the_guest_asks_before_a_start(world):
    ensure_keeper(world.instance)
    guest, _ = world.qemu.guest.accept()
    guest.settimeout(PATIENCE)
    a = free_port()
    other, taken = busy()
    with guest, other, guest.makefile("r") as answers:

        def ask(number: int, *ports: int) -> dict:
            question = {"id": number, "op": "reserve", "container": "id-of-web", "ports": [["tcp", port] for port in ports]}
            guest.sendall(json.dumps(question).encode() + b"\n")
            return json.loads(answers.readline())

        assert ask(7, a, taken) == {
            "id": 7,
            "ok": False,
            "address": f"127.0.0.1:{taken}",
            "reason": f"port {taken}/tcp of the desktop is in use by another program",
        }
        assert world.forwards() == set()
        rubbish = (b"\n", b"{}", b'{"id": 1, "op": "quit"}', b"x" * 200_000, json.dumps({"id": 1, "op": "reserve"}).encode())
        guest.sendall(b"\n".join(rubbish) + b"\n")
        assert ask(8, a) == {"id": 8, "ok": True}, "what is no question is dropped"
        assert world.forwards() == {f"tcp:127.0.0.1:{a}"}, "before the container runs"


def test_the_guests_own_code_is_understood(world):
    ensure_keeper(world.instance)
    guest, _ = world.qemu.guest.accept()
    guest.setblocking(False)
    a = free_port()
    other, taken = busy()

    async def ask(number: int) -> str:
        ports = DesktopPorts(lambda: None, PATIENCE)
        ports._port = guest.fileno()
        return await ports.refusal("id-of-web", [("tcp", number)])

    with guest, other:
        reason = f"port {taken}/tcp of the desktop is in use by another program"
        assert asyncio.run(ask(taken)) == f"Bind for 127.0.0.1:{taken} failed: {reason}"
        assert asyncio.run(ask(a)) == ""
        assert world.forwards() == {f"tcp:127.0.0.1:{a}"}
    assert PORT_NAME == DESKTOP_PORTS_PORT


def test_an_instance_of_an_earlier_version_has_no_keeper(instance, record):
    instance.write_record(record)
    assert ensure_keeper(Instance("box")) == []
