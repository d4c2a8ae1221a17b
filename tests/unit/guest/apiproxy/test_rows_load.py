"""Rows of load (P10, P39, P43): many streams and large ones leave memory bounded and other clients answered."""

from __future__ import annotations

import asyncio
import resource
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from cofferdam_guest.config.policy import Policy
from proxytest.requests import request
from proxytest.stage import ok, read_all, staged

EVENTS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
PIECE = b"x" * (1 << 16)
BIG = 100 << 20
STREAM_BYTES = 48 << 10
"""What one event stream may take, the engine's and the client's side of this test included."""


@pytest.fixture
def stage(tmp_path):
    with staged(tmp_path, Policy()) as made:
        yield made


def resident():
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@pytest.fixture
def descriptors():
    """How many more descriptors this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Source:
    """An engine's side that writes without end, as fast as it is read."""

    def __init__(self) -> None:
        self.written = 0

    async def __call__(self, reader, writer, raw):
        while self.written < BIG:
            writer.write(PIECE)
            await writer.drain()
            self.written += len(PIECE)

    def stalled(self):
        """What has been written once nothing moves any more."""
        before = -1
        while before != self.written or not before:
            before = self.written
            time.sleep(0.1)
        return self.written


ANSWERS = {
    "P43-length": (request("GET /containers/x/logs?stdout=1"), b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG),
    "P43-to-the-end": (request("GET /containers/x/logs?stdout=1"), b"HTTP/1.1 200 OK\r\n\r\n"),
    "P43-chunked": (
        request("GET /containers/x/logs?stdout=1"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % BIG,
    ),
    "P10-tunnel": (
        request("POST /containers/x/attach?stream=1", "Connection: Upgrade", "Upgrade: tcp"),
        b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_slow_reader_holds_the_engine_back(stage, name):
    asked, head = ANSWERS[name]
    source = stage.engine.after = Source()
    stage.engine.answer = lambda method, target, body: head if target != "/_ping" else ok()
    before = resident()
    with stage.connect() as client:
        client.sendall(asked)
        assert source.stalled() < 4 << 20
        got = 0
        for _ in range(20):
            got += len(client.recv(1 << 16))
        assert source.stalled() < (4 << 20) + got
        assert resident() - before < 16 << 20
        stage.engine.after = None
        assert stage.send(request("GET /_ping")).startswith(b"HTTP/1.1 200")
        while data := client.recv(1 << 20):
            got += len(data)
            if got >= BIG:
                break
        assert got >= BIG
    assert resident() - before < 16 << 20


def test_p43_chunked_trailers_of_an_answer_are_passed_on(stage):
    """The connection ends with them, since nobody has read them."""
    body = b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"
    stage.engine.answer = lambda method, target, sent: EVENTS[:-7] + body
    answer = stage.send(request("GET /containers/x/logs?stdout=1") + request("GET /_ping"))
    assert answer.endswith(body)


@pytest.mark.timeout(120)
def test_p39_many_event_streams_leave_room_for_another_client(stage, descriptors):
    """10 000, or as many as this process may have descriptors for: four a stream, since all sides of it are here."""
    count = min(10_000, (descriptors - 200) // 4)
    stage.engine.answer = lambda method, target, body: EVENTS if target == "/events" else ok()
    over = asyncio.Event()
    stage.engine.after = lambda reader, writer, raw: over.wait()
    before, slowest = resident(), 0.0
    with ExitStack() as streams:
        clients = []
        for _ in range(count):
            clients.append(client := streams.enter_context(stage.connect()))
            client.sendall(request("GET /events"))
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert (resident() - before) / count < STREAM_BYTES
        for _ in range(5):
            started = time.monotonic()
            with stage.connect() as other:
                other.sendall(request("GET /_ping"))
                assert other.recv(1000).startswith(b"HTTP/1.1 200")
            slowest = max(slowest, time.monotonic() - started)
        stage.loop.call_soon_threadsafe(over.set)
        assert all(read_all(client) == b"" for client in clients)
    assert slowest < 2
    assert len(stage.engine.seen) == count + 5
