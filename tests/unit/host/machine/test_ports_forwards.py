"""Host forwards, with the user network of a real QEMU."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TypeVar

import pytest

from cofferdam.machine.channels import free_port
from cofferdam.machine.ports import forwards as module
from cofferdam.machine.ports.forwards import Forwards, parse_forwards, probe
from cofferdam.machine.ports.wanted import Port
from cofferdam.machine.qmp import connected

Found = TypeVar("Found")


@contextmanager
def bound(kind=socket.SOCK_STREAM, address="127.0.0.1", port=0):
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind((address, port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        yield other.getsockname()[1]


def with_forwards(qemu, work: Callable[[Forwards], Awaitable[Found]], address: str = "127.0.0.1") -> Found:
    async def run() -> Found:
        client = await connected(qemu.keeper)
        try:
            return await work(Forwards(client, address, {qemu.door}))
        finally:
            await client.disconnect()

    return asyncio.run(run())


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_opened_and_closed_again(qemu, proto):
    port = Port(proto, free_port())
    door = f"tcp:127.0.0.1:{qemu.door}"

    async def work(forwards):
        assert await forwards.present() == set()
        assert await forwards.open(port) == ""
        assert await forwards.present() == {port}
        assert await asyncio.to_thread(qemu.forwards) == sorted([door, f"{proto}:127.0.0.1:{port.number}"])
        await forwards.close(port)
        await forwards.close(port)
        assert await forwards.present() == set()

    with_forwards(qemu, work)
    assert qemu.forwards() == [door]


def test_an_open_port_takes_connections(qemu):
    port = free_port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with_forwards(qemu, lambda forwards: forwards.open(Port("tcp", port)))
    socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize(("proto", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_of_another_program(qemu, proto, kind, address):
    with bound(kind, address) as number:
        reason = with_forwards(qemu, lambda forwards: forwards.open(Port(proto, number)))
    assert reason == f"port {number}/{proto} of the desktop is in use by another program"
    assert with_forwards(qemu, lambda forwards: forwards.open(Port(proto, number))) == "", "free again"


def test_qemus_own_refusal_is_told(qemu, monkeypatch):
    monkeypatch.setattr(module, "probe", lambda *_: "")
    with bound() as number:
        reason = with_forwards(qemu, lambda forwards: forwards.open(Port("tcp", number)))
    assert reason.startswith(f"port {number}/tcp of the desktop cannot be had: Could not set up host forwarding rule")


def test_the_doors_are_never_taken_nor_closed(qemu):
    door = Port("tcp", qemu.door)
    assert "is a door of this instance" in with_forwards(qemu, lambda forwards: forwards.open(door))
    with_forwards(qemu, lambda forwards: forwards.close(door))
    assert qemu.forwards() == [f"tcp:127.0.0.1:{qemu.door}"]


def test_a_door_of_the_guests_own_number_is_no_port_of_a_container(qemu):
    port = free_port()

    async def work(forwards):
        assert await forwards.open(Port("tcp", port)) == ""
        return await Forwards(forwards._client, "127.0.0.1", {port}).present()

    assert with_forwards(qemu, work) == set()


def test_every_address_of_the_host(qemu):
    port = Port("tcp", free_port())

    async def work(forwards):
        assert await forwards.open(port) == ""
        assert await forwards.present() == {port}
        assert f"tcp:*:{port.number}" in await asyncio.to_thread(qemu.forwards)
        await forwards.close(port)
        assert await forwards.present() == set()

    with_forwards(qemu, work, "0.0.0.0")


def test_an_address_that_the_host_does_not_have(qemu):
    reason = with_forwards(qemu, lambda forwards: forwards.open(Port("tcp", free_port())), "192.0.2.1")
    assert reason == "the desktop has no address 192.0.2.1"


def test_there_is_a_most(qemu, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)

    async def work(forwards):
        return [await forwards.open(Port("udp", free_port())) for _ in range(3)]

    assert with_forwards(qemu, work) == ["", "", "2 ports are published already, which is the most"]


@pytest.mark.skipif(not os.path.exists("/proc/sys/net/ipv4/ip_unprivileged_port_start"), reason="Linux")
def test_a_privileged_port():
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as source:
        lowest = int(source.read())
    if lowest < 2:
        pytest.skip("every port is anybody's here")
    user = os.geteuid()
    try:
        os.seteuid(user or 65534)
        assert (
            probe("127.0.0.1", Port("tcp", lowest - 1))
            == f"port {lowest - 1}/tcp of the desktop is reserved for privileged programs"
        )
    finally:
        os.seteuid(user)


def test_only_forwards_to_the_same_port_are_ports_of_containers():
    text = (
        "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
        "  TCP[ESTABLISHED]  12       127.0.0.1  8081       10.0.2.15  8081     0     0\r\n"
        "  TCP[HOST_FORWARD]   9       127.0.0.1  8080       10.0.2.15  8080     0     0\r\n"
        "  UDP[HOST_FORWARD]  10               *    53       10.0.2.15    53     0     0\r\n"
        "  UDP[236 sec]       11       10.0.2.15    54        10.0.2.3    53     0     0\r\n"
        "  TCP[HOST_FORWARD]   4       127.0.0.1  2222       10.0.2.15    22     0     0\r\n"
    )
    assert parse_forwards(text) == {("tcp", 8080), ("udp", 53)}
    assert parse_forwards("") == set()
