"""Bytes both ways between two streams, for as long as some flow."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from cofferdam_guest.apiproxy.http.transport import Stream

_PIECE = 128 * 1024


class Idle:
    """When something flowed last. `limit` is in seconds and may be changed."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.touch()

    def touch(self) -> None:
        """Something flows."""
        self._last = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        """Return when nothing has flowed for the limit."""
        while (rest := self._last + self.limit - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(rest, 1.0))


async def pump(source: Stream, sink: Stream, idle: Idle) -> None:
    """From one to the other, its end included. No more than one piece is held. Raises OSError."""
    while data := await source.read(_PIECE):
        idle.touch()
        await sink.write(data)
        idle.touch()
    await sink.end()


async def both(up: Coroutine[Any, Any, None], down: Coroutine[Any, Any, None], idle: Idle, linger: float | None) -> None:
    """Run both directions to their end, to the first error, or until nothing flows.

    Args:
        up: from the client.
        down: to the client.
        idle: touched by both.
        linger: idle limit when one direction has ended; none to stop with the end of `down`.
    """
    upwards, downwards, quiet = (asyncio.create_task(each) for each in (up, down, idle.wait()))
    try:
        waiting = {upwards, downwards}
        while waiting:
            done, _ = await asyncio.wait({*waiting, quiet}, return_when=asyncio.FIRST_COMPLETED)
            waiting -= done
            if quiet in done or any(each.exception() for each in done) or (linger is None and downwards in done):
                break
            if linger is not None:
                idle.limit = linger
    finally:
        for each in (upwards, downwards, quiet):
            each.cancel()
        await asyncio.gather(upwards, downwards, quiet, return_exceptions=True)
