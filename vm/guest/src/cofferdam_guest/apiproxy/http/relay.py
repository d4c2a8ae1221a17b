"""Bytes from one stream to another, unread: bodies, and both ways of a tunnel."""

from __future__ import annotations

import asyncio
import sys

from cofferdam_guest.apiproxy.http.splice import Pipe, Splice
from cofferdam_guest.apiproxy.http.transport import CHUNK, PlainStream, Stream

_LINGER = 10.0


async def tunnel(client: Stream, engine: Stream) -> None:
    """Relay both ways. The client's end is passed on and leaves the other way open; the engine's end is the end of it all."""
    upwards = asyncio.create_task(_pump(client, engine))
    try:
        await _pump(engine, client)
        async with asyncio.timeout(_LINGER):
            await upwards
    except (OSError, TimeoutError):
        pass
    finally:
        upwards.cancel()
        await asyncio.gather(upwards, return_exceptions=True)


async def _pump(source: Stream, sink: Stream) -> None:
    await relay(source, sink)
    await sink.end()


async def relay(source: Stream, sink: Stream, limit: int = sys.maxsize) -> int:
    """Relay what comes, at most `limit` bytes; returns how many there were. A source that breaks off has ended.

    Raises:
        OSError: the sink takes no more.
    """
    if isinstance(source, PlainStream) and isinstance(sink, PlainStream) and limit > CHUNK and (pipe := Pipe.made()):
        with pipe:
            return await Splice(source.socket, sink.socket, limit, pipe).run()
    moved = 0
    while moved < limit and (data := await _read(source, min(CHUNK, limit - moved))):
        await sink.write(data)
        moved += len(data)
    return moved


async def _read(source: Stream, size: int) -> bytes:
    try:
        return await source.read(size)
    except OSError:
        return b""
