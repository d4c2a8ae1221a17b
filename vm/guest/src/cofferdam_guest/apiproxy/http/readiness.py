"""Waiting for a descriptor. Nothing is read or written while waiting, so that a wait can be cancelled without losing bytes."""

from __future__ import annotations

import asyncio


async def readable(descriptor: int) -> None:
    """Return when there is something to read, or the end of it. One waiter per descriptor."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    loop.add_reader(descriptor, _wake, waiter)
    try:
        await waiter
    finally:
        loop.remove_reader(descriptor)


async def writable(descriptor: int) -> None:
    """Return when there is room to write, or nobody to write to. One waiter per descriptor."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    loop.add_writer(descriptor, _wake, waiter)
    try:
        await waiter
    finally:
        loop.remove_writer(descriptor)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
