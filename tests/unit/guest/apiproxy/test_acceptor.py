"""Accepting: a full table of descriptors, a limit, and what one connection does to others."""

import asyncio
import os
import resource
import socket
import time
from contextlib import asynccontextmanager, suppress

import pytest

from cofferdam_guest.apiproxy.http import acceptor
from cofferdam_guest.apiproxy.http.acceptor import Acceptor


class Counting(socket.socket):
    """A listener that counts the attempts to accept."""

    attempts = 0

    def accept(self):
        self.attempts += 1
        return super().accept()


@asynccontextmanager
async def accepting(serve, limit=100):
    """A running acceptor: its listener, and a way to connect to it."""
    listener = Counting(socket.AF_UNIX)
    listener.bind("")
    listener.listen(10)
    listener.setblocking(False)
    address, loop = listener.getsockname(), asyncio.get_running_loop()
    running = loop.create_task(Acceptor(listener, serve, limit).run())

    async def connect(client=None):
        client = client or socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        await loop.sock_connect(client, address)
        return client

    try:
        async with asyncio.timeout(60):
            yield listener, connect
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def received(client):
    with client:
        return await asyncio.get_running_loop().sock_recv(client, 100)


async def greet(connection, _):
    await asyncio.get_running_loop().sock_sendall(connection, b"hello")


@pytest.fixture
def no_descriptors():
    """Take all descriptors away; returns what gives them back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def give():
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def take():
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        return give

    yield take
    give()


def test_without_descriptors_it_waits_and_goes_on(no_descriptors):
    async def run():
        async with accepting(greet) as (listener, connect):
            client = socket.socket(socket.AF_UNIX)
            give = no_descriptors()
            await connect(client)
            started, before = time.monotonic(), listener.attempts
            while listener.attempts < before + 5:
                await asyncio.sleep(0.01)
            took = time.monotonic() - started
            give()
            assert took > 3 * acceptor._PAUSE, "it does not spin"
            assert await received(client) == b"hello"

    asyncio.run(run())


@pytest.mark.parametrize("error", [OSError("as clients make them"), LookupError("a defect")])
def test_an_error_ends_its_connection_alone(error, capfd):
    async def serve(connection, peer):
        if await asyncio.get_running_loop().sock_recv(connection, 1) == b"x":
            raise error
        await greet(connection, peer)

    async def run():
        loop = asyncio.get_running_loop()
        async with accepting(serve) as (_, connect):
            bad, good = await connect(), await connect()
            await loop.sock_sendall(bad, b"x")
            assert await received(bad) == b""
            await loop.sock_sendall(good, b"y")
            assert await received(good) == b"hello"

    asyncio.run(run())
    assert ("a defect" in capfd.readouterr().err) == isinstance(error, LookupError)


def test_more_than_allowed_wait():
    served, ends = [], []

    async def serve(connection, _):
        served.append(connection)
        ends.append(end := asyncio.Event())
        await end.wait()

    async def run():
        async with accepting(serve, limit=2) as (_, connect):
            clients = [await connect() for _ in range(3)]
            while len(served) < 2:
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(served) == 2
            ends[0].set()
            while len(served) < 3:
                await asyncio.sleep(0)
            for client in clients:
                client.close()

    asyncio.run(run())
