"""The whole proxy over streams in memory: what a client sends in, what reached dockerd and what had been judged out.

The engine here takes its requests apart with h11, not with the proxy's own code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import h11

from cofferdam_guest.apiproxy import connection, plan
from cofferdam_guest.apiproxy.audit import Audit
from cofferdam_guest.apiproxy.connection import Connection, Service
from cofferdam_guest.apiproxy.http.backend import Backend
from cofferdam_guest.apiproxy.judge.request import Request

_OK = b"HTTP/1.1 %d x\r\nContent-Length: 2\r\n\r\n{}"
_SWITCH = b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


class Client:
    """A stream that sends pieces and then ends; keeps what comes back."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces, self.answers = [piece for piece in reversed(pieces) if piece], bytearray()

    async def read(self, size: int = 1 << 18) -> bytes:
        """See Stream."""
        await asyncio.sleep(0)
        piece = self._pieces.pop() if self._pieces else b""
        if len(piece) > size:
            self._pieces.append(piece[size:])
        return piece[:size]

    async def write(self, *parts: bytes | memoryview) -> None:
        """See Stream."""
        self.answers += b"".join(parts)

    async def end(self) -> None:
        """See Stream."""

    def close(self) -> None:
        """See Stream."""


@dataclass
class Arrived:
    """One connection to dockerd: its bytes, what a second parser makes of them, and what the proxy had judged.

    Attributes:
        request: h11's view of the head; None when it was none.
        whole: the request came to its end.
        tunnel: bytes behind a request that was upgraded.
    """

    judged: Request
    agree: bool
    raw: bytearray = field(default_factory=bytearray)
    request: h11.Request | None = None
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    tunnel: bytearray = field(default_factory=bytearray)
    broken: str = ""
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self._answer = b""

    async def write(self, *parts: bytes | memoryview) -> None:
        """See Stream."""
        data = b"".join(parts)
        self.raw += data
        if self._answer.startswith(b"HTTP/1.1 101"):
            self.tunnel += data
        elif self.whole:
            self.broken = "bytes behind the request"
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            self._parser.receive_data(data)
            while not isinstance(event := self._parser.next_event(), type(h11.NEED_DATA)):
                if isinstance(event, h11.Request):
                    self.request = event
                elif isinstance(event, h11.Data):
                    self.body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self.whole = True
                    break
        except h11.RemoteProtocolError as error:
            self.broken = str(error)
        if self.whole:
            self.broken = "bytes behind the request" if self._parser.trailing_data[0] else ""
            upgrade = self.request and any(name == b"upgrade" for name, _ in self.request.headers)
            self._answer = _SWITCH if upgrade and self.agree else _OK % (409 if upgrade else 200)
            self.ready.set()

    async def read(self, size: int = 1 << 18) -> bytes:
        """See Stream: the answer, once, when the request is whole."""
        await self.ready.wait()
        if self._answer.endswith(b"{}") or self._answer.endswith(b"tcp\r\n\r\n"):
            data, self._answer = self._answer, self._answer[:12]
            return data
        return b""

    async def end(self) -> None:
        """See Stream."""

    def close(self) -> None:
        """See Stream."""


class Memory:
    """A proxy without sockets. `send` is one connection."""

    def __init__(self, rules: plan.Rules) -> None:
        self._service = Service(rules, "engine", Audit("/nonexistent"))
        self._judged: list[Request] = []
        self._arrived: list[Arrived] = []
        self._agree = True
        self._loop = asyncio.new_event_loop()

    async def _judge(self, request: Request) -> Request:
        judged = await _real_judge(request)
        self._judged.append(judged)
        return judged

    async def _connect(self, _: str) -> Backend:
        arrived = Arrived(self._judged[-1], self._agree)
        self._arrived.append(arrived)
        stream: Any = arrived
        return Backend(stream)

    def send(self, pieces: Sequence[bytes], *, agree: bool = True) -> tuple[list[Arrived], bytes]:
        """What arrived of one client's connection, and what the client got; `agree`: whether dockerd upgrades."""
        self._judged, self._arrived, self._agree = [], [], agree
        client = Client(pieces)
        self._loop.run_until_complete(asyncio.wait_for(Connection(client, "uid 0", self._service).serve(), 20))
        return self._arrived, bytes(client.answers)

    @contextmanager
    def running(self) -> Iterator[Memory]:
        """Put the engine in dockerd's place."""
        with (
            patch.object(connection, "connect", self._connect),
            patch.object(connection, "GRACE", 0.2),
            patch.object(plan, "judge", self._judge),
        ):
            yield self
        self._loop.close()


_real_judge = plan.judge
