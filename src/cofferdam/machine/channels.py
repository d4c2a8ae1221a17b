"""Sockets between the host and QEMU: bound here first and handed over, so that nobody waits for them to appear."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cofferdam.errors import InstanceError
from cofferdam.machine.hosts.channeltls import client_context

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """Where a channel listens: a Unix socket, or a loopback port on Windows, whose Python has no Unix sockets.

    `keys` is the directory with the client's half of a port's TLS material; see `hosts.channeltls`.
    """

    path: str = ""
    port: int = 0
    keys: str = ""

    def as_text(self) -> str:
        """The address in one word, as stored in an instance's record."""
        return self.path or f"{LOOPBACK}:{self.port}" + (f":{self.keys}" if self.keys else "")

    @classmethod
    def from_text(cls, text: str) -> Address:
        """The reverse of `as_text`."""
        if text.startswith(f"{LOOPBACK}:"):
            port, _, keys = text.removeprefix(f"{LOOPBACK}:").partition(":")
            return cls(port=int(port), keys=keys)
        return cls(path=text)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What a client of a port begins with; none for a Unix socket, whose file only its owner may open.

        Raises:
            OSError: the keys are not there.
        """
        return client_context(Path(self.keys)) if self.keys else None


@dataclass(frozen=True)
class Channel:
    """A channel's address and, where QEMU inherits it, the descriptor of its listening socket."""

    address: Address
    handle: int | None = None


@contextmanager
def listening(path: Path, keys: Path | None = None) -> Iterator[Channel]:
    """Bind and listen for the length of the block, in which QEMU is to be started with the handle.

    A socket left over at this path is replaced: the caller holds the instance's lock. With keys it is a port on which QEMU will
    listen by itself.
    """
    if keys is not None or sys.platform == "win32":
        yield Channel(Address(port=free_port(), keys=str(keys or "")))
        return
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(1)
        yield Channel(Address(path=str(path)), server.fileno())


def connect(address: Address, timeout: float) -> socket.socket:
    """Connect to a channel.

    Raises:
        OSError: nobody listens there, or somebody who is not this machine's QEMU.
    """
    client = dial(address, timeout)
    # It closes the connection itself when the other side proves nothing.
    tls = address.tls
    return client if tls is None else tls.wrap_socket(client, server_hostname=LOOPBACK)


def dial(address: Address, timeout: float) -> socket.socket:
    """A connection on which nothing has been said yet, where `address.tls` may be what to begin with.

    Raises:
        OSError: nobody listens there.
    """
    if address.port or sys.platform == "win32":
        return socket.create_connection((LOOPBACK, address.port), timeout)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout)
    try:
        client.connect(address.path)
    except OSError:
        client.close()
        raise
    return client


def receive(port: socket.socket, size: int = 65536) -> bytes:
    """What has come; from TLS all that is decrypted already, which `select` does not see."""
    data = port.recv(size)
    while isinstance(port, ssl.SSLSocket) and port.pending():
        data += port.recv(size)
    return data


def free_port(preferred: int | None = None, taken: Collection[int] = ()) -> int:
    """A free TCP port on the loopback address that is not among the taken; the preferred one when nobody has it.

    Raises:
        InstanceError: there is none.
    """
    for port in (preferred, *[0] * 20):
        if port is not None and (found := _bind(port)) and found not in taken:
            return found
    raise InstanceError("this machine has no free TCP port", hint="Close programs that hold many connections.")


def port_is_free(port: int) -> bool:
    """Whether a loopback TCP port can be bound now."""
    return _bind(port) != 0


def _bind(port: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])
