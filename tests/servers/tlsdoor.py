"""A TLS door as the VM's: with the guest's own transport, so that each direction ends by itself. What it does is asked for in line 1.

`GET …` tells that no container runs; `echo` sends back; `digest` reads to the client's end and answers with the hash; `first` ends
its own side and reads on; `give N` sends N bytes and ends; `linger` ends with the connection alone; `both` sends and reads 1 MiB at a time until both ends have ended.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from cofferdam_guest.apiproxy.http.transport import PlainStream, TlsStream, server_context

BLOCK = bytes(range(256)) * 4096


class TlsDoor:
    """Serves in a thread of its own until closed.

    Attributes:
        received: hashes of what `first` got after its own end.
        open: connections at this moment.
        most: the most of them at a time.
        lingering: those of `linger`.
    """

    def __init__(self, smbios: Path, port: int = 0) -> None:
        with tempfile.TemporaryDirectory() as place:
            files = [Path(place, name) for name in ("tls-ca", "tls-cert", "tls-key")]
            for file in files:
                file.write_bytes(base64.b64decode((smbios / file.name).read_text().partition("=")[2]))
            self._context = server_context(*map(str, files))
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.received: list[str] = []
        self.open = self.most = self.lingering = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; once is enough."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(20)
        self._loop.close()
        self._listener.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        async def accept() -> None:
            while True:
                connection, _ = await self._loop.sock_accept(self._listener)
                tasks.add(self._loop.create_task(self._one(connection)))

        tasks.add(self._loop.create_task(accept()))
        await self._ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, connection: socket.socket) -> None:
        stream = TlsStream(PlainStream(connection), self._context)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            with suppress(OSError):
                await stream.handshake()
                data = b""
                while b"\n" not in data and (piece := await stream.read()):
                    data += piece
                line, _, rest = data.partition(b"\n")
                verb, _, argument = line.decode("latin-1").partition(" ")
                await getattr(self, f"_{verb.lower()}")(stream, rest, argument)
        finally:
            stream.close()
            self.open -= 1

    async def _get(self, stream: TlsStream, _: bytes, path: str) -> None:
        if "/events" in path:
            await stream.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await stream.read()
            return
        body = json.dumps([]).encode()
        await stream.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body))
        await stream.write(b"Connection: close\r\n\r\n" + body)
        await stream.end()

    async def _echo(self, stream: TlsStream, data: bytes, _: str) -> None:
        await stream.write(data)
        while data := await stream.read():
            await stream.write(data)
        await stream.end()

    async def _digest(self, stream: TlsStream, data: bytes, _: str) -> None:
        await stream.write(await self._to_the_end(stream, data))
        await stream.end()

    async def _first(self, stream: TlsStream, data: bytes, _: str) -> None:
        await stream.write(b"mine is all said")
        await stream.end()
        self.received.append((await self._to_the_end(stream, data)).decode())

    async def _give(self, stream: TlsStream, _: bytes, argument: str) -> None:
        left = int(argument)
        while left:
            await stream.write(BLOCK[:left])
            left -= min(left, len(BLOCK))
        await stream.end()

    async def _both(self, stream: TlsStream, data: bytes, argument: str) -> None:
        reading = asyncio.create_task(self._to_the_end(stream, data))
        await self._give(stream, b"", argument)
        self.received.append((await reading).decode())

    async def _stall(self, stream: TlsStream, _: bytes, argument: str) -> None:
        """Say that it reads nothing, and never does."""
        await stream.write(b"stalled")
        await asyncio.Event().wait()

    async def _linger(self, stream: TlsStream, _: bytes, argument: str) -> None:
        """Read to the client's end, and then to that of the connection below."""
        self.lingering += 1
        await stream.write(b"lingering")
        await self._to_the_end(stream, b"")
        while await stream._below.read():
            pass
        self.lingering -= 1

    @staticmethod
    async def _to_the_end(stream: TlsStream, data: bytes) -> bytes:
        digest = hashlib.sha256(data)
        while data := await stream.read():
            digest.update(data)
        return digest.hexdigest().encode()
