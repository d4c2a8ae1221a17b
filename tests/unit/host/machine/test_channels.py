"""Channels: bound here and handed over, found again by their address; and host ports."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from cofferdam.machine.channels import LOOPBACK, Address, connect, free_port, listening, port_is_free


def test_who_connects_before_the_owner_accepts_is_served(tmp_path, home):
    path = tmp_path / "s"
    with listening(path) as channel:
        assert channel.handle is not None
        inherited = os.dup(channel.handle)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # What QEMU does with its descriptor:
    with socket.socket(fileno=inherited) as server, connect(channel.address, 5) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"hello")
            assert client.recv(10) == b"hello"


def test_a_left_over_socket_is_replaced(tmp_path):
    path = tmp_path / "s"
    path.write_text("left over")
    with listening(path) as channel, connect(channel.address, 5):
        assert stat.S_ISSOCK(path.stat().st_mode)


def test_nobody_listens_after_the_last_holder_is_gone(tmp_path):
    with listening(tmp_path / "s") as channel:
        pass
    for address in (channel.address, Address(path=str(tmp_path / "never"))):
        with pytest.raises(OSError, match=r"refused|No such file"):
            connect(address, 5)


@pytest.mark.parametrize("address", [Address(path="/run/a:b.qmp"), Address(port=50123)])
def test_an_address_survives_as_text(address):
    assert Address.from_text(address.as_text()) == address


def test_connect_by_port():
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with connect(Address(port=port), 5) as client:
            assert client.getpeername() == (LOOPBACK, port)


def test_ports():
    with socket.create_server((LOOPBACK, 0)) as server:
        used = server.getsockname()[1]
        assert not port_is_free(used)
        other = free_port(used)
        assert other not in (0, used)
    assert port_is_free(other)
    assert free_port(other) == other
    assert free_port(other, taken=[other]) != other
