"""The two ways in: mutual TLS from the desktop, and the Unix socket that allowed containers get."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

from cofferdam_guest.apiproxy.connection import Connection, Service
from cofferdam_guest.apiproxy.http.acceptor import Acceptor
from cofferdam_guest.apiproxy.http.transport import PlainStream, Stream, TlsStream

_FIRST = 3
LIMIT = 16_000
"""Connections of one door at a time; more wait in the backlog."""
_HANDSHAKE = 30.0
Greet = Callable[[socket.socket], Awaitable[tuple[Stream, str]]]


def inherited() -> list[socket.socket]:
    """The listening sockets that systemd holds for this process (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    listeners = [socket.socket(fileno=number) for number in range(_FIRST, _FIRST + int(os.environ.get("LISTEN_FDS", "0")))]
    for listener in listeners:
        listener.setblocking(False)
    return listeners


async def plain(connection: socket.socket) -> tuple[Stream, str]:
    """Greet a peer of the Unix socket: its user id says which container's range it is in."""
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return PlainStream(connection), f"uid {uid}"


def mutual_tls(context: ssl.SSLContext) -> Greet:
    """Greet by shaking hands."""

    async def greet(connection: socket.socket) -> tuple[Stream, str]:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        stream = TlsStream(PlainStream(connection), context)
        async with asyncio.timeout(_HANDSHAKE):
            await stream.handshake()
        return stream, "host"

    return greet


def door(listener: socket.socket, greet: Greet, service: Service) -> Acceptor:
    """What serves the API on a listener. No certificate, no handshake, or a client that leaves: that connection ends."""

    async def serve(connection: socket.socket, _: object) -> None:
        stream, peer = await greet(connection)
        await Connection(stream, peer, service).serve()

    return Acceptor(listener, serve, LIMIT)
