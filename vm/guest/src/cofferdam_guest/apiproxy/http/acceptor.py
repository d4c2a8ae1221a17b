"""Accepting connections: each is served in a task of its own, up to a number; more wait in the listener's backlog."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

_PAUSE = 0.1
Serve = Callable[[socket.socket, Any], Awaitable[None]]


class Acceptor:
    """Serves a listener's connections.

    Args:
        listener: a listening socket that does not block; closed at the end.
        serve: serves one, given its socket and its peer's address; an error ends it and no other, and is printed but for OSError.
        limit: connections at a time.
    """

    def __init__(self, listener: socket.socket, serve: Serve, limit: int) -> None:
        self._listener, self._serve = listener, serve
        self._room = asyncio.Semaphore(limit)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Connections that are being served."""
        return len(self._tasks)

    async def run(self) -> None:
        """Serve until cancelled; connections end with it."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._room.acquire()
                try:
                    connection, peer = await loop.sock_accept(self._listener)
                except OSError:
                    # out of descriptors, or a client that left at once
                    self._room.release()
                    await asyncio.sleep(_PAUSE)
                    continue
                task = loop.create_task(self._one(connection, peer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            self._listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _one(self, connection: socket.socket, peer: Any) -> None:
        try:
            await self._serve(connection, peer)
        except OSError:
            pass
        except Exception as error:
            traceback.print_exception(error)
        finally:
            connection.close()
            self._room.release()
