"""The Docker API on a Unix socket of the desktop, for programs that want one: bytes to and from the instance's TLS door."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
from contextlib import suppress
from pathlib import Path

from cofferdam.errors import CofferdamError
from cofferdam.machine.channels import LOOPBACK
from cofferdam.machine.dockerping import client_tls
from cofferdam.machine.ports.socketplace import listen
from cofferdam.machine.ports.tls import CHUNK, TlsClient

_CONNECT_SECONDS = 30.0


class SocketDoor:
    """A listening Unix socket and its connections; all of them end with `serve`.

    Args:
        path: where.
        port: the instance's Docker port on this machine.
        certificates: directory of ca.pem, cert.pem and key.pem.
    """

    def __init__(self, path: Path, port: int, certificates: Path) -> None:
        self.path, self._port, self._certificates = path, port, certificates
        self._listener: socket.socket | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self.problem = ""
        """Why there is none; empty while there is."""

    def open(self) -> None:
        """Listen; when that cannot be, `problem` says why."""
        try:
            self._tls = client_tls(self._certificates)
            self._listener = listen(self.path)
        except (CofferdamError, OSError) as error:
            self.problem = str(error)

    async def serve(self) -> None:
        """Relay until cancelled; then the socket is gone. Without one it only waits."""
        if self._listener is None:
            await asyncio.Event().wait()
            return
        made = self.path.lstat()
        _many_files()
        server = await asyncio.start_unix_server(self._accept, sock=self._listener, limit=CHUNK)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for relay in self._relays:
                relay.cancel()
            # One that was put in its place is not ours.
            with suppress(OSError):
                if os.path.samestat(made, self.path.lstat()):
                    self.path.unlink()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.get_running_loop().create_task(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                source, below = await asyncio.open_connection(LOOPBACK, self._port, limit=CHUNK)
                ends.append(below)
                engine = TlsClient(source, below, self._tls, LOOPBACK)
                await engine.handshake()
            async with asyncio.TaskGroup() as group:
                group.create_task(_upwards(reader, writer, engine))
                group.create_task(_downwards(engine, writer))
        except* _Gone:
            pass
        except* OSError:
            # ssl.SSLError and TimeoutError are ones. Whoever is left sees its connection end.
            for each in ends:
                each.transport.abort()
        finally:
            for each in ends:
                each.close()


class _Gone(Exception):
    """The program has closed its connection: nobody is left to read."""


async def _upwards(client: asyncio.StreamReader, back: asyncio.StreamWriter, engine: TlsClient) -> None:
    while data := await client.read(CHUNK):
        await engine.write(data)
    await engine.end()
    if _has_closed(back):
        raise _Gone


async def _downwards(engine: TlsClient, client: asyncio.StreamWriter) -> None:
    while data := await engine.read():
        client.write(data)
        await client.drain()
    client.write_eof()


def _has_closed(client: asyncio.StreamWriter) -> bool:
    """Whether the program has closed both ways and not only its own; without that a stream of logs would go on to nobody."""
    if sys.platform != "linux":
        return False
    poll = select.poll()
    poll.register(client.get_extra_info("socket"), 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _many_files() -> None:
    """Each connection is two open files, of which a process has 1024 as a rule."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
