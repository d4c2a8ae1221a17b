"""The books of the port keeper: what running containers want and what starting ones reserve, against what QEMU forwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from cofferdam.machine.ports.forwards import Forwards
from cofferdam.machine.ports.wanted import Holder, Port

RESERVED_SECONDS = 60.0


class Refusal(NamedTuple):
    """A port that cannot be had, and why."""

    port: Port
    reason: str


class _Reservation(NamedTuple):
    container: str
    until: float


class Ledger:
    """Keeps QEMU's forwards equal to what is wanted; one change at a time.

    Args:
        forwards: QEMU's.
        clock: seconds, monotonic.
    """

    def __init__(self, forwards: Forwards, clock: Callable[[], float] = time.monotonic) -> None:
        self._forwards, self._clock = forwards, clock
        self._change = asyncio.Lock()
        self._reserved: dict[Port, _Reservation] = {}
        self.wanted: Mapping[Port, Holder] = {}
        self.refused: dict[Port, str] = {}

    @property
    def settled(self) -> bool:
        """Whether nothing is to be looked at again before something happens."""
        return not self.refused and not self._reserved

    async def reconcile(self, wanted: Mapping[Port, Holder]) -> None:
        """Close what nobody wants, then open what is missing; what is refused is tried anew."""
        async with self._change:
            self.wanted = wanted
            self._reserved = {port: held for port, held in self._reserved.items() if self._still_reserved(port, held)}
            present = await self._forwards.present()
            for port in sorted(present - wanted.keys() - self._reserved.keys()):
                await self._forwards.close(port)
            tried = {port: await self._forwards.open(port) for port in sorted(wanted.keys() - present)}
            self.refused = {port: reason for port, reason in tried.items() if reason}

    def _still_reserved(self, port: Port, held: _Reservation) -> bool:
        holder = self.wanted.get(port)
        return (holder is None or holder.id != held.container) and self._clock() < held.until

    async def reserve(self, container: str, ports: Iterable[Port]) -> Refusal | None:
        """Open all ports for a container that is about to start, or none; a port that is open already is no matter,
        since dockerd itself judges between containers.
        """
        async with self._change:
            present = await self._forwards.present()
            asked = dict.fromkeys(ports)
            opened: list[Port] = []
            for port in asked:
                if port in present:
                    continue
                reason = await self._forwards.open(port)
                if reason:
                    for each in opened:
                        await self._forwards.close(each)
                    return Refusal(port, reason)
                opened.append(port)
            until = self._clock() + RESERVED_SECONDS
            self._reserved.update({port: _Reservation(container, until) for port in asked})
            return None
