"""A TLS client over asyncio's streams whose two directions end one by one: asyncio's own TLS ends both at once.

`docker run -i`, `attach` and `exec` end their input and still read what the container prints.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from contextlib import suppress

CHUNK = 256 * 1024


class TlsClient:
    """One connection. One task reads, one task writes.

    Args:
        reader, writer: a connection on which nothing was said yet.
        context: what to show and whom to trust.
        name: the server's name or address in its certificate.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext, name: str) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._left, self._ended = b"", False
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    async def handshake(self) -> None:
        """Shake hands. Raises OSError (ssl.SSLError is one)."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
        await self._flush()

    async def read(self) -> bytes:
        """Some bytes; none at the end of what the server sends. Raises OSError."""
        while not self._left and not self._ended:
            more, self._ended = self._decrypted(CHUNK)
            # kept before anything is waited for: who waits may be cancelled
            self._left += more
            if self._outgoing.pending:
                # an answer to a change of keys
                await self._flush()
            if not self._left and not self._ended:
                await self._fill()
        data, self._left = self._left, b""
        return data

    def _decrypted(self, most: int) -> tuple[bytes, bool]:
        """What has arrived, a record each time, `most` bytes or a little more, and whether nothing more will."""
        parts: list[bytes] = []
        size = 0
        while size < most:
            try:
                part = self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                return b"".join(parts), False
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                part = b""
            if not part:
                return b"".join(parts), True
            parts.append(part)
            size += len(part)
        return b"".join(parts), False

    async def write(self, data: bytes) -> None:
        """Send all of `data`; waits while the server does not take it. Raises OSError."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
            await self._flush()

    async def end(self) -> None:
        """Tell the server that nothing more will be sent; it may go on."""
        # The notice looks for the server's own, and would throw away what is still to be decrypted.
        more, self._ended = self._decrypted(sys.maxsize)
        self._left += more
        with suppress(OSError, ValueError):  # it wants the server's own notice too: that is for read() to see
            self._tls.unwrap()
        await self._flush()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)
        await self._writer.drain()

    async def _fill(self) -> None:
        data = await self._reader.read(CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
