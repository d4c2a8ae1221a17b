"""A name server that has one answer to every question for an IPv4 address (RFC 1035, section 4)."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ANSWERED = 0x8180
_A, _IN = 1, 1
_HEADER = 12


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, door = self.request
        end = data.index(b"\0", _HEADER) + 5
        (kind,) = struct.unpack_from("!H", data, end - 4)
        # 0xC00C: the name of the question. Nobody may remember it: no time to live.
        record = struct.pack("!HHHIH", 0xC00C, _A, _IN, 0, 4) + self.server.address if kind == _A else b""  # type: ignore[attr-defined]
        head = data[:2] + struct.pack("!HHHHH", _ANSWERED, 1, 1 if record else 0, 0, 0)
        door.sendto(head + data[_HEADER:end] + record, self.client_address)


@contextmanager
def nameserver(place: str, address: str) -> Iterator[None]:
    """Answer at port 53 of an address of this machine that every name is that address.

    Raises:
        OSError: the port is not to be had.
    """
    with socketserver.ThreadingUDPServer((place, 53), _Handler) as server:
        server.address = socket.inet_aton(address)  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
