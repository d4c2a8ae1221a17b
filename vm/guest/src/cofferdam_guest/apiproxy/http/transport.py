"""Byte streams over sockets, with a half-close that works over TLS too: asyncio's own TLS ends both ways at once.

`docker run -i` needs it: the client ends its input and still reads what the container prints.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from contextlib import suppress
from typing import Protocol

from cofferdam_guest.apiproxy.http.readiness import readable, writable

CHUNK = 256 * 1024
_RECORD = 16 * 1024
_STREAK = 16
_VECTOR = 64
_NO_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks TLS: use https and the client's certificate.\n"
)


class Stream(Protocol):
    """One connection. One task reads, one task writes; reading may be cancelled, and no byte is lost."""

    async def read(self, size: int = CHUNK) -> bytes:
        """Some bytes, at most `size`; none at the end of what the peer sends. Raises OSError."""

    async def write(self, *parts: bytes | memoryview) -> None:
        """Send all of the parts, one after the other. Raises OSError."""

    async def end(self) -> None:
        """Tell the peer that nothing more will be sent."""

    def close(self) -> None:
        """Close both ways, at once."""


class PlainStream:
    """A stream over a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self._streak = 0

    async def read(self, size: int = CHUNK) -> bytes:
        """See Stream."""
        self._streak += 1
        if self._streak > _STREAK:
            # who always finds something to read would keep all others waiting
            self._streak = 0
            await asyncio.sleep(0)
        while True:
            try:
                return self.socket.recv(size)
            except BlockingIOError:
                self._streak = 0
                await readable(self.socket.fileno())

    async def write(self, *parts: bytes | memoryview) -> None:
        """See Stream."""
        views = [memoryview(part) for part in (parts if len(parts) <= _VECTOR else [b"".join(parts)])]
        while views:
            try:
                views = _behind(views, self.socket.sendmsg(views))
            except BlockingIOError:
                await writable(self.socket.fileno())

    async def end(self) -> None:
        """See Stream."""
        with suppress(OSError):  # the peer was faster
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See Stream."""
        self.socket.close()


def _behind(views: list[memoryview], sent: int) -> list[memoryview]:
    """What is left of views when so many bytes of them are sent."""
    for index, view in enumerate(views):
        if sent < len(view):
            return [view[sent:], *views[index + 1 :]]
        sent -= len(view)
    return []


class TlsStream:
    """A TLS server's side over a plain stream, by memory buffers."""

    def __init__(self, below: PlainStream, context: ssl.SSLContext) -> None:
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._left, self._ended = b"", False
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._flushing = asyncio.Lock()

    async def handshake(self) -> None:
        """Shake hands. Raises OSError (ssl.SSLError is one): no certificate, one of another authority, …"""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError as error:
                if error.reason == "HTTP_REQUEST":
                    await self._below.write(_NO_TLS)
                else:
                    await self._flush()
                raise
        await self._flush()

    async def read(self, size: int = CHUNK) -> bytes:
        """See Stream."""
        while not self._decrypt(size):
            # While another task writes it flushes this too; waiting for it here could wait for a peer that waits for us.
            if self._outgoing.pending and not self._flushing.locked():
                await self._flush()
            await self._fill()
        data, self._left = self._left[:size], self._left[size:]
        return data

    def _decrypt(self, most: int) -> bool:
        """Decrypt what has arrived, `most` bytes or a little more; whether there is something to hand out, be it the end."""
        parts, size = [self._left], len(self._left)
        with suppress(ssl.SSLWantReadError):
            while size < most and not self._ended:
                part = self._record()
                parts.append(part)
                size += len(part)
                self._ended = not part
        self._left = b"".join(parts)
        return size > 0 or self._ended

    def _record(self) -> bytes:
        """What the next record holds; none at the end. Raises ssl.SSLWantReadError: it has not arrived."""
        try:
            return self._tls.read(_RECORD)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, *parts: bytes | memoryview) -> None:
        """See Stream."""
        view = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
        while view:
            view = view[self._tls.write(view[:CHUNK]) :]
            await self._flush()

    async def end(self) -> None:
        """See Stream."""
        with suppress(OSError, ValueError):
            # The notice looks for the peer's own, and would throw away what is still to be decrypted.
            self._decrypt(sys.maxsize)
            # It wants the peer's notice too, which is for read() to see.
            self._tls.unwrap()
        await self._flush()
        await self._below.end()

    def close(self) -> None:
        """See Stream."""
        self._below.close()

    async def _flush(self) -> None:
        async with self._flushing:
            while data := self._outgoing.read():
                await self._below.write(data)

    async def _fill(self) -> None:
        data = await self._below.read()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()


def server_context(authority: str, certificate: str, key: str) -> ssl.SSLContext:
    """TLS that asks the client for a certificate of `authority`. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
