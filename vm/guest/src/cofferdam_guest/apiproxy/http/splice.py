"""From one socket to another inside the kernel, through a pipe.

The event loop's callbacks do the moving: waking a task for each piece costs several times as much as the piece itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from contextlib import suppress
from typing import Self

_LARGE = 256 * 1024
_TURNS = 16


class Pipe:
    """The two ends of a pipe that does not block; closes them."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._grown = False

    def grow(self) -> None:
        """Let it take more at a time, if the kernel agrees. Most tunnels are terminals, and never need it."""
        if not self._grown:
            self._grown = True
            with suppress(OSError):
                fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, _LARGE)

    @classmethod
    def made(cls) -> Self | None:
        """A pipe; None when there is no room for one."""
        try:
            return cls()
        except OSError:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.out)
        os.close(self.into)


class Splice:
    """Moves bytes from `source` to `sink`, which do not block, until the source ends or `limit` bytes have moved."""

    def __init__(self, source: socket.socket, sink: socket.socket, limit: int, pipe: Pipe) -> None:
        self._source, self._sink, self._limit, self._pipe = source.fileno(), sink.fileno(), limit, pipe
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._moved = self._held = 0
        self._watched = -1

    async def run(self) -> int:
        """Move them; returns how many there were. Raises OSError: the sink takes no more."""
        try:
            self._step()
            await self._over
        finally:
            self._watch(-1)
        return self._moved

    def _step(self) -> None:
        if self._over.done():
            return
        try:
            if self._move():
                self._over.set_result(None)
            elif self._watched < 0:
                self._watch(self._source)
        except BlockingIOError:
            self._watch(self._sink if self._held else self._source)
        except OSError as error:
            if self._held:
                self._over.set_exception(error)
            else:
                # a source that breaks off has ended
                self._over.set_result(None)

    def _move(self) -> bool:
        """Move a few, for others want a turn; whether these were the last. Raises BlockingIOError: one side is not ready."""
        for turn in range(_TURNS):
            if not self._held:
                left = self._limit - self._moved
                self._held = os.splice(self._source, self._pipe.into, min(_LARGE, left)) if left else 0
                if not self._held:
                    return True
                if turn:
                    self._pipe.grow()
            moved = os.splice(self._pipe.out, self._sink, self._held)
            self._held -= moved
            self._moved += moved
        return False

    def _watch(self, descriptor: int) -> None:
        """Have `_step` called when one of the two is ready, or neither (-1)."""
        if descriptor == self._watched:
            return
        if self._watched == self._source:
            self._loop.remove_reader(self._source)
        elif self._watched == self._sink:
            self._loop.remove_writer(self._sink)
        if descriptor == self._source:
            self._loop.add_reader(self._source, self._step)
        elif descriptor == self._sink:
            self._loop.add_writer(self._sink, self._step)
        self._watched = descriptor
