"""From one socket to another inside the kernel, through a pipe.

The event loop's callbacks do the moving: waking a task for each piece costs several times as much as the piece itself. A turn
of the loop still costs more than the piece, so a fast stream is lent to one of a few threads until it pauses, if one is free.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Self

_LARGE = 256 * 1024
_FAST = 32 * 1024
_PAUSE_MS = 20
_THREADS = 4

_threads = ThreadPoolExecutor(_THREADS, "splice")
_spare = threading.Semaphore(_THREADS)


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
        self._moving = threading.Lock()
        self._left = False

    async def run(self) -> int:
        """Move them; returns how many there were. Raises OSError: the sink takes no more."""
        try:
            self._step()
            await self._over
        finally:
            self._watch(-1)
            # From here on the descriptors may be closed, and their numbers be others': a thread finishes its piece first.
            with self._moving:
                self._left = True
        return self._moved

    def _step(self) -> None:
        if self._over.done():
            return
        before = self._moved
        try:
            awaited = self._piece()
        except OSError as error:
            self._over.set_exception(error)
            return
        if awaited is not None and self._moved - before >= _FAST and _spare.acquire(blocking=False):
            self._watch(-1)
            self._pipe.grow()
            self._loop.run_in_executor(_threads, self._rush).add_done_callback(self._returned)
        else:
            self._go_on(awaited)

    def _go_on(self, awaited: int | None) -> None:
        if awaited is None:
            self._over.set_result(None)
        else:
            self._watch(awaited)

    def _rush(self) -> int | None:
        """In a thread: move pieces until neither side has been ready for a moment. Returns and raises what `_piece` does."""
        ready = {self._source: select.poll(), self._sink: select.poll()}
        ready[self._source].register(self._source, select.POLLIN)
        ready[self._sink].register(self._sink, select.POLLOUT)
        try:
            while True:
                with self._moving:
                    awaited = None if self._left else self._piece()
                if awaited is None or not ready[awaited].poll(_PAUSE_MS):
                    return awaited
        finally:
            _spare.release()

    def _returned(self, rush: asyncio.Future[int | None]) -> None:
        """The stream is back from its thread."""
        error = rush.exception()
        if self._over.done():
            return
        if error is not None:
            self._over.set_exception(error)
        else:
            self._go_on(rush.result())

    def _piece(self) -> int | None:
        """Move a piece, or more of it. Returns the descriptor that has to be ready for the next one; None: it was the last.

        Raises:
            OSError: the sink takes no more.
        """
        if not self._held:
            try:
                self._held = os.splice(self._source, self._pipe.into, min(_LARGE, self._limit - self._moved))
            except BlockingIOError:
                return self._source
            except OSError:
                # a source that breaks off has ended
                return None
            if not self._held:
                return None
        try:
            moved = os.splice(self._pipe.out, self._sink, self._held)
        except BlockingIOError:
            return self._sink
        self._held -= moved
        self._moved += moved
        if self._held:
            return self._sink
        return self._source if self._moved < self._limit else None

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
