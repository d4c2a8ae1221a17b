"""The API proxy between a client's socket and a recording engine, all real sockets, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cofferdam_guest.apiproxy.audit import Audit
from cofferdam_guest.apiproxy.connection import Service
from cofferdam_guest.apiproxy.doors import door as door_of
from cofferdam_guest.apiproxy.doors import plain
from cofferdam_guest.apiproxy.plan import Rules
from cofferdam_guest.config.policy import Policy

Answer = Callable[[str, str, bytes], bytes | None]


def ok(document: object = None, status: int = 200) -> bytes:
    """An answer of the engine, with a length."""
    body = json.dumps({} if document is None else document).encode()
    return b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


@dataclass
class Engine:
    """Stands where dockerd stands: keeps every byte, answers by a function of method, target and body.

    Attributes:
        seen: all bytes of each connection, in order.
        answer: the answer; None leaves the connection open without one.
        objects: what look-ups find, by path without the version.
        early: an answer that comes before the body has been read.
        after: goes on with the connection after an answer.
    """

    seen: list[bytearray] = field(default_factory=list)
    answer: Answer = lambda method, target, body: ok()
    objects: dict[str, Any] = field(default_factory=dict)
    early: bytes = b""
    after: Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytearray], Any] | None = None

    @property
    def requests(self) -> list[str]:
        """The request lines that have arrived, look-ups left out."""
        lines = [bytes(each).partition(b"\r\n")[0].decode() for each in self.seen]
        return [line for line in lines if not any(line.split(" ")[1].endswith(path) for path in self.objects)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = bytearray()
        self.seen.append(raw)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            raw += head
            if self.early:
                writer.write(self.early)
                await writer.drain()
                await reader.read()
                return
            body = await self._body(reader, head.lower(), raw)
            method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
            path = target.partition("?")[0].removeprefix("/v1.45")
            answer = ok(self.objects[path]) if path in self.objects else self.answer(method, target, body)
            if answer is not None:
                writer.write(answer)
                await writer.drain()
                if self.after is not None:
                    await self.after(reader, writer, raw)
            else:
                while data := await reader.read(65536):
                    raw += data

    @staticmethod
    async def _body(reader: asyncio.StreamReader, head: bytes, raw: bytearray) -> bytes:
        body = b""
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length:"):
                body = await reader.readexactly(int(line.partition(b":")[2]))
                raw += body
            elif line == b"transfer-encoding: chunked":
                while size := int(await reader.readline(), 16):
                    body += await reader.readexactly(size)
                    await reader.readexactly(2)
                await reader.readexactly(2)
                raw += body
        return body


class Facts:
    """Look-ups without an engine: nothing exists, paths are what they say."""

    def __init__(self, **found: dict[str, Any]) -> None:
        self.found = found
        self.shares = ()

    async def volume(self, name: str) -> dict[str, Any] | None:
        """See judge.request.Facts."""
        return self.found.get(f"volume_{name}")

    async def container(self, name: str) -> dict[str, Any] | None:
        """See judge.request.Facts."""
        return self.found.get(f"container_{name}")

    async def image(self, name: str) -> dict[str, Any] | None:
        """See judge.request.Facts."""
        return self.found.get(f"image_{name}")

    async def socket_mount_allowed(self, image: str) -> bool:
        """See judge.request.Facts."""
        return False

    async def discard(self, container: str) -> None:
        """See judge.request.Facts."""

    async def desktop_port_refusal(self, container: str, ports: Any) -> str:
        """See judge.request.Facts."""
        return ""

    async def resolve(self, path: str) -> str:
        """See judge.request.Facts."""
        return path


@dataclass
class Stage:
    """The running proxy: where to connect, and the engine behind it."""

    path: str
    engine: Engine
    journal: socket.socket
    loop: asyncio.AbstractEventLoop

    def connect(self, timeout: float = 10.0) -> socket.socket:
        """A client's connection."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout)
        client.connect(self.path)
        return client

    def send(self, *pieces: bytes, timeout: float = 10.0) -> bytes:
        """Send pieces one after the other on one connection, end it, and return everything that comes back."""
        with self.connect(timeout) as client:
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def events(self) -> list[bytes]:
        """The journal entries so far."""
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.journal.recv(65536))
        return found


def read_all(client: socket.socket) -> bytes:
    """Everything up to the end; a reset counts as the end."""
    data = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(65536):
            data += piece
    return data


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # transports close in the loop's next rounds
    await asyncio.sleep(0.05)


@contextmanager
def staged(directory: Path, policy: Policy, door: str = "host", facts: Any = None) -> Iterator[Stage]:
    """A proxy at `directory`/door with its recording engine at `directory`/engine."""
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(directory / "journal"))
    journal.setblocking(False)
    engine = Engine()
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()
    service = Service(Rules(policy, facts or Facts(), door), str(directory / "engine"), Audit(str(directory / "journal")))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "door"))
    listener.listen(1024)
    listener.setblocking(False)

    accepting = door_of(listener, plain, service)

    async def run() -> None:
        server = await asyncio.start_unix_server(engine.serve, str(directory / "engine"))
        accepted = loop.create_task(accepting.run())
        started.set()
        await stop.wait()
        accepted.cancel()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    started.wait(10)
    try:
        yield Stage(str(directory / "door"), engine, journal, loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.run_until_complete(_end_tasks())
        loop.close()
        listener.close()
        journal.close()
