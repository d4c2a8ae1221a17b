"""The egress proxy under test, servers behind it, and clients in front of it, all on 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from cofferdam_guest.apiproxy.egress.addresses import may_reach
from cofferdam_guest.apiproxy.egress.proxy import EgressProxy
from cofferdam_guest.config.policy import Policy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[int]:
    tasks = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await handler(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    made = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        made.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(
    policy: Policy | None = None, rule: Callable[[str], bool] | None = lambda address: address.startswith("127."), **options: Any
) -> AsyncIterator[int]:
    made = EgressProxy(policy or Policy(), rule or may_reach, **options)
    port = made.listen("127.0.0.1", 0)
    task = asyncio.create_task(made.run())
    try:
        yield port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert made._listening.count == 0


async def talk(port: int, data: bytes) -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def ask(port: int, data: bytes) -> tuple[bytes, bytes]:
    """The status line and everything after the head."""
    reader, writer = await talk(port, data)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], body


def connect(host: str, port: int = 443) -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: Go-http-client/1.1\r\n\r\n".encode()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only when the other side has said all it had to say."""
    data = await reader.read()
    writer.write(b"heard " + data)
    await writer.drain()
