"""Fast streams are lent to a few threads: what the loop does meanwhile, who gets none, and what is left behind."""

import asyncio
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest

from cofferdam_guest.apiproxy.http import splice
from cofferdam_guest.apiproxy.http.relay import relay
from cofferdam_guest.apiproxy.http.transport import PlainStream

MIB = 1 << 20
BLOCK = os.urandom(65536)


class Line:
    """A client and an engine with the proxy's two streams between them. The client's bytes go to the engine."""

    def __init__(self):
        self.client, door = socket.socketpair()
        upstream, self.engine = socket.socketpair()
        self.sockets = self.client, door, upstream, self.engine
        self.door, self.upstream = PlainStream(door), PlainStream(upstream)
        self.received = bytearray()
        self.threads = []

    def feed(self, size):
        def run():
            with suppress(OSError):
                for _ in range(size // len(BLOCK)):
                    self.client.sendall(BLOCK)
                self.client.shutdown(socket.SHUT_WR)

        self.start(run)

    def drain(self):
        def run():
            with suppress(OSError):
                while data := self.engine.recv(MIB):
                    self.received += data

        self.start(run)

    def start(self, target):
        self.threads.append(threading.Thread(target=target, daemon=True))
        self.threads[-1].start()

    def close(self):
        for each in self.sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(60)
        for each in self.sockets:
            each.close()


@contextmanager
def line():
    made = Line()
    try:
        yield made
    finally:
        made.close()


def spare():
    """How many threads could be had."""
    with ExitStack() as stack:
        count = 0
        while splice._spare.acquire(blocking=False):
            stack.callback(splice._spare.release)
            count += 1
        return count


def all_back():
    deadline = time.monotonic() + 60
    while spare() < splice._THREADS and time.monotonic() < deadline:
        time.sleep(0.01)
    return spare() == splice._THREADS


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_fast_stream_goes_on_while_the_loop_is_busy():
    async def run():
        with line() as way:
            way.feed(256 * MIB)
            way.drain()
            relaying = asyncio.create_task(relay(way.door, way.upstream))
            await until(lambda: len(way.received) > MIB)
            before, deadline = len(way.received), time.monotonic() + 60
            # more than all of the sockets' and the pipe's buffers hold
            while len(way.received) < before + 16 * MIB and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(way.received) >= before + 16 * MIB
            relaying.cancel()

    asyncio.run(run())
    assert all_back()


@pytest.mark.parametrize("lent", [0, splice._THREADS])
def test_every_byte_arrives_with_and_without_a_thread_to_spare(lent):
    async def run():
        with ExitStack() as stack:
            for _ in range(lent):
                assert splice._spare.acquire(timeout=60)
                stack.callback(splice._spare.release)
            ways = [stack.enter_context(line()) for _ in range(splice._THREADS + 2)]
            for way in ways:
                way.feed(8 * MIB)
                way.drain()
            moved = await asyncio.gather(*(relay(way.door, way.upstream) for way in ways))
            assert moved == [8 * MIB] * len(ways)
            for way in ways:
                await way.upstream.end()
                way.threads[1].join(60)
                assert way.received == BLOCK * (8 * MIB // len(BLOCK))

    asyncio.run(run())
    assert all_back()


def test_a_client_that_does_not_read_keeps_no_thread():
    async def run():
        with line() as way:
            way.feed(8 * MIB)
            relaying = asyncio.create_task(relay(way.door, way.upstream))
            await asyncio.sleep(0)
            await until(lambda: spare() < splice._THREADS)
            await until(lambda: spare() == splice._THREADS)
            way.drain()
            assert await relaying == 8 * MIB

    asyncio.run(run())


def test_a_cancelled_stream_moves_nothing_more(monkeypatch):
    """Its descriptors are closed next, and their numbers are soon others'. The pipe stays open here, and would let it."""
    monkeypatch.setattr(splice, "_PAUSE_MS", 60_000)

    async def run():
        with line() as way, splice.Pipe() as pipe:
            way.feed(512 * MIB)
            way.drain()
            moving = asyncio.create_task(splice.Splice(way.door.socket, way.upstream.socket, 512 * MIB, pipe).run())
            await until(lambda: len(way.received) > MIB)
            assert spare() == splice._THREADS - 1
            moving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await moving
            # had it gone on, it would have come to the end of what the client sends
            assert all_back()
            way.upstream.socket.shutdown(socket.SHUT_WR)
            way.threads[1].join(60)
            assert MIB < len(way.received) < 512 * MIB

    asyncio.run(run())


def test_a_sink_that_goes_while_a_thread_has_the_stream_is_an_error():
    async def run():
        with line() as way:
            way.feed(512 * MIB)
            relaying = asyncio.create_task(relay(way.door, way.upstream))
            seen = 0
            while seen < 4 * MIB:
                seen += len(await asyncio.to_thread(way.engine.recv, MIB))
            way.engine.close()
            with pytest.raises(BrokenPipeError):
                async with asyncio.timeout(60):
                    await relaying

    asyncio.run(run())
    assert all_back()
