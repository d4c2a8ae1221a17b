"""Asks the desktop for the ports of a container before it starts, so that a port in use there is an error of `docker run`.

This is comfort, not isolation: without an answer the container starts, and the desktop shows what is missing.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from cofferdam_guest.linux.virtioport import find_port

PORT_NAME = "org.cofferdam.ports"
_SECONDS = 5.0
_ANSWER = 1 << 16
# What fits into one write of a virtio port; the desktop forwards fewer.
_MOST = 1024


class DesktopPorts:
    """The desktop's port keeper, over a virtio port; one question at a time.

    Args:
        find: path of the port's device, None when the machine has none.
        seconds: how long to wait for an answer, the questions before included.
    """

    def __init__(self, find: Callable[[], str | None] = lambda: find_port(PORT_NAME), seconds: float = _SECONDS) -> None:
        self._find, self._seconds = find, seconds
        self._turn = asyncio.Lock()
        self._port: int | None = None
        self._number = 0

    async def refusal(self, container: str, ports: Sequence[tuple[str, int]]) -> str:
        """Why the desktop cannot have these ports, in dockerd's kind of words; empty when it has them now, or does not answer."""
        if not ports or len(ports) > _MOST:
            return ""
        try:
            async with asyncio.timeout(self._seconds), self._turn:
                answer = await self._in_turn(container, ports)
        except (OSError, TimeoutError):
            return ""
        if answer is None or answer.get("ok") is not False:
            return ""
        return f"Bind for {answer.get('address')} failed: {answer.get('reason')}"

    async def _in_turn(self, container: str, ports: Sequence[tuple[str, int]]) -> dict[str, Any] | None:
        try:
            return await self._ask(container, ports)
        except BaseException:
            # An answer that comes too late goes with the open file.
            self._close()
            raise

    async def _ask(self, container: str, ports: Sequence[tuple[str, int]]) -> dict[str, Any] | None:
        """The answer; None when there is no port, or nobody at its other end."""
        path = self._find() if self._port is None else None
        if path is not None:
            self._port = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if self._port is None:
            return None
        self._number += 1
        question = {"id": self._number, "op": "reserve", "container": container, "ports": ports}
        # Nobody listens: the kernel would let it wait (EAGAIN, an OSError).
        os.write(self._port, json.dumps(question).encode("ascii") + b"\n")
        data = b""
        while piece := await _read(self._port):
            *lines, data = (data + piece).split(b"\n")
            for line in lines:
                answer = _answer(line)
                # An older question's comes late.
                if answer is not None and answer.get("id") == self._number:
                    return answer
        return None

    def _close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            os.close(port)


async def _read(port: int) -> bytes:
    """What has arrived, empty when nobody is at the other end any more."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    while True:
        try:
            return os.read(port, _ANSWER)
        except BlockingIOError:
            loop.add_reader(port, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(port)
            readable.clear()


def _answer(line: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
