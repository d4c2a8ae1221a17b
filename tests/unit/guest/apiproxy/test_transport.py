"""Streams over real sockets: mutual TLS with a half-close, both ways at once, and waits that can be cancelled."""

import asyncio
import base64
import hashlib
import os
import select
import socket
import ssl
from contextlib import asynccontextmanager, suppress

import pytest

from cofferdam.machine.credentials import ensure_credentials
from cofferdam_guest.apiproxy.http.relay import relay, tunnel
from cofferdam_guest.apiproxy.http.transport import PlainStream, TlsStream, server_context

BIG = os.urandom(1 << 20) * 8


class Client:
    """A TLS client's side by memory buffers: it can end its input and read on, as Go's clients do."""

    def __init__(self, connection, context):
        self.below = PlainStream(connection)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def flush(self):
        if data := self.outgoing.read():
            await self.below.write(data)

    async def step(self, call):
        while True:
            try:
                result = call()
                await self.flush()
                return result
            except ssl.SSLWantReadError:
                await self.flush()
                if data := await self.below.read():
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    async def read_all(self):
        data = bytearray()
        with suppress(ssl.SSLZeroReturnError, ssl.SSLEOFError):
            while piece := await self.step(lambda: self.tls.read(65536)):
                data += piece
        return bytes(data)

    async def write(self, data):
        for at in range(0, len(data), 65536):
            await self.step(lambda at=at: self.tls.write(data[at : at + 65536]))

    async def end(self):
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.flush()


async def read_all(stream):
    data = bytearray()
    while piece := await stream.read():
        data += piece
    return bytes(data)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Files of the server (authority, certificate, key) and of the client, for two machines."""

    def make(name):
        directory = tmp_path_factory.mktemp(name)
        made = ensure_credentials(directory / "keys", name)
        server = []
        for file in made.smbios:
            path = directory / file.name
            path.write_bytes(base64.b64decode(file.read_text().partition("=")[2]))
            server.append(str(path))
        return server, made.client

    return make("one"), make("two")


def client_context(directory, with_certificate=True):
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    if with_certificate:
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


@asynccontextmanager
async def pair(server, context):
    """A served stream and its client, hands shaken."""
    one, other = socket.socketpair()
    stream, client = TlsStream(PlainStream(one), server_context(*server)), Client(other, context)
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(stream.handshake(), client.step(client.tls.do_handshake))
            yield stream, client
    finally:
        one.close()
        other.close()


def test_both_ways(keys):
    async def run():
        async with pair(keys[0][0], client_context(keys[0][1])) as (stream, client):
            await client.write(b"hello")
            assert await stream.read() == b"hello"
            await stream.write(b"world")
            assert await client.step(lambda: client.tls.read(5)) == b"world"

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["none", "of another authority"])
def test_a_client_without_the_right_certificate_is_refused(keys, kind):
    context = client_context(keys[0][1], with_certificate=False)
    if kind != "none":
        context.load_cert_chain(keys[1][1] / "cert.pem", keys[1][1] / "key.pem")

    async def run():
        async with pair(keys[0][0], context):
            pass

    with pytest.raises(ssl.SSLError):
        asyncio.run(run())


def test_a_client_that_speaks_no_tls_is_told_so(keys):
    async def run():
        one, other = socket.socketpair()
        with one, other:
            other.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(ssl.SSLError):
                await TlsStream(PlainStream(one), server_context(*keys[0][0])).handshake()
            return other.recv(4096)

    assert asyncio.run(run()).startswith(b"HTTP/1.1 400 ")


def test_the_end_of_input_leaves_the_output_open(keys):
    """`docker run -i` reads on after its own input has ended."""

    async def run():
        async with pair(keys[0][0], client_context(keys[0][1])) as (stream, client):
            await client.write(b"last")
            await client.end()
            assert await stream.read() == b"last"
            assert await stream.read() == b""
            await stream.write(b"answer")
            await stream.end()
            assert await client.read_all() == b"answer"

    asyncio.run(run())


def test_the_end_of_the_output_loses_nothing_of_the_input(keys):
    """A container ends while its input is still under way: some of it is here and not decrypted, some comes later."""
    early, late = os.urandom(100_000), os.urandom(50_000)

    async def run():
        async with pair(keys[0][0], client_context(keys[0][1])) as (stream, client):
            await client.write(early)
            first = await stream.read(10)
            assert first == early[:10]
            await stream.end()
            await client.write(late)
            await client.end()
            assert first + await read_all(stream) == early + late

    asyncio.run(run())


@pytest.mark.parametrize("way", ["to the client", "from the client"])
def test_much_one_way_while_the_other_is_read(keys, way):
    async def send(sink):
        await sink.write(BIG)
        await sink.end()

    async def run():
        async with pair(keys[0][0], client_context(keys[0][1])) as (stream, client):
            sending, reading = (send(stream), client.read_all()) if way == "to the client" else (send(client), read_all(stream))
            _, received = await asyncio.gather(sending, reading)
            assert received == BIG

    asyncio.run(run())


@pytest.mark.parametrize("secure", [False, True])
def test_a_cancelled_read_loses_nothing(keys, secure):
    async def run():
        if secure:
            async with pair(keys[0][0], client_context(keys[0][1])) as (stream, client):
                await check(stream, client.write)
        else:
            one, other = socket.socketpair()
            with one, other:
                await check(PlainStream(one), PlainStream(other).write)

    async def check(stream, write):
        got = b""
        for number in range(200):
            reading = asyncio.create_task(stream.read())
            await asyncio.sleep(0)
            await write(b"%03d" % number)
            if number % 2:
                await asyncio.sleep(0)
            reading.cancel()
            result = await asyncio.gather(reading, return_exceptions=True)
            got += result[0] if isinstance(result[0], bytes) else b""
        while len(got) < 600:
            got += await asyncio.wait_for(stream.read(), 5)
        assert got == b"".join(b"%03d" % number for number in range(200))

    asyncio.run(run())


async def feed(stream, data=BIG):
    await stream.write(data)
    await stream.end()


async def digest(stream):
    seen = hashlib.sha256()
    while data := await stream.read():
        seen.update(data)
    return seen.hexdigest()


@asynccontextmanager
async def between():
    """A client's socket and the engine's, and the two of the proxy between them: client, door, upstream, engine."""
    pairs = socket.socketpair(), socket.socketpair()
    streams = [PlainStream(each) for one in pairs for each in one]
    try:
        async with asyncio.timeout(60):
            yield streams
    finally:
        for stream in streams:
            stream.close()


def test_a_tunnel_of_plain_sockets_moves_every_byte():
    """The kernel moves them, through a pipe."""

    async def run():
        async with between() as (client, door, upstream, engine):
            way = asyncio.create_task(tunnel(door, upstream))
            _, up = await asyncio.gather(feed(client), digest(engine))
            _, down = await asyncio.gather(feed(engine), digest(client))
            await way
            assert up == down == hashlib.sha256(BIG).hexdigest()

    asyncio.run(run())


@pytest.mark.parametrize("limit", [0, 1, 100_000, 5_000_000, len(BIG), len(BIG) + 1])
def test_no_byte_behind_the_limit_is_touched(limit):
    """It is the next request."""

    async def run():
        async with between() as (client, door, upstream, engine):
            feeding = asyncio.create_task(feed(client))
            reading = asyncio.create_task(read_all(engine))
            moved = await relay(door, upstream, limit)
            await upstream.end()
            assert moved == min(limit, len(BIG))
            assert await reading == BIG[:limit]
            assert await read_all(door) == BIG[limit:]
            await feeding

    asyncio.run(run())


def test_a_peer_that_has_gone_ends_a_relay():
    async def run():
        async with between() as (client, door, upstream, engine):
            engine.close()
            feeding = asyncio.create_task(feed(client))
            with pytest.raises(BrokenPipeError):
                await relay(door, upstream)
            feeding.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("blocked", ["source", "sink"])
def test_a_cancelled_relay_leaves_nothing_behind(blocked):
    """Neither a descriptor nor a callback for one, which the next connection could have."""

    async def run():
        async with between() as (client, door, upstream, _):
            open_before = set(os.listdir("/proc/self/fd"))
            feeding = asyncio.create_task(feed(client)) if blocked == "sink" else None
            relaying = asyncio.create_task(relay(door, upstream))
            await asyncio.sleep(0)
            while feeding and select.select([], [upstream.socket], [], 0)[1]:
                await asyncio.sleep(0)
            relaying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await relaying
            assert set(os.listdir("/proc/self/fd")) == open_before
            loop = asyncio.get_running_loop()
            assert not loop.remove_reader(door.socket.fileno())
            assert not loop.remove_writer(upstream.socket.fileno())
            if feeding:
                feeding.cancel()

    asyncio.run(run())


def test_who_always_finds_something_to_read_lets_others_run():
    async def run():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        one, peer = socket.socketpair()
        with one, peer:
            peer.sendall(bytes(200))
            running = asyncio.create_task(other())
            stream = PlainStream(one)
            for _ in range(200):
                assert await stream.read(1)
            running.cancel()
        assert turns > 5

    asyncio.run(run())


@pytest.mark.parametrize("count", [1, 3, 40, 3000])
def test_parts_are_sent_in_their_order(count):
    size = len(BIG) // count
    parts = [b"", *(BIG[at : at + size] for at in range(0, len(BIG), size)), b""]

    async def run():
        async with between() as (client, door, _, _):
            _, received = await asyncio.gather(send(client, parts), read_all(door))
            assert received == BIG

    async def send(stream, parts):
        await stream.write(*map(memoryview, parts))
        await stream.end()

    asyncio.run(run())
