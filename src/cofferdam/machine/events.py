"""What the guest says on its ready port: one JSON object a line. Bytes in, events out; no input or output here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

PHASES = ("heartbeat", "userspace", "docker")
POWER_OFF = b'{"command":"poweroff"}\n'
ASK_UNITS = b'{"command":"units"}\n'
_ASKED = ("units", "grown")
_LONGEST_LINE = 64 * 1024
Read = TypeVar("Read")


@dataclass(frozen=True)
class Event:
    """One message of the guest.

    Attributes:
        kind: `heartbeat`, `userspace`, `docker`, `failed` or, when asked for, `units` and `grown`.
        uptime: seconds since the guest's kernel started.
        data: the message's other fields.
    """

    kind: str
    uptime: float
    data: dict[str, Any] = field(default_factory=dict)


class Stream(Generic[Read]):
    """Cuts a byte stream into lines and reads each. The guest is not trusted: what cannot be read is counted and dropped.

    Args:
        read: one line as what it says; none when it is garbage.
    """

    def __init__(self, read: Callable[[bytes], Read | None]) -> None:
        self._read = read
        self._rest = b""
        self._skipping = False
        self.garbage = 0

    def feed(self, data: bytes) -> list[Read]:
        """Take the next bytes, return what is complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._skipping:
            lines, self._skipping = lines[1:], False
        if len(self._rest) > _LONGEST_LINE:
            self.garbage += not self._skipping
            self._rest, self._skipping = b"", True
        found = [self._short(line) for line in lines if line.strip() or len(line) > _LONGEST_LINE]
        self.garbage += found.count(None)
        return [each for each in found if each is not None]

    def _short(self, line: bytes) -> Read | None:
        # A line is too long whether it arrives at once or in pieces.
        return self._read(line) if len(line) <= _LONGEST_LINE else None


class EventStream(Stream[Event]):
    """The events in a byte stream."""

    def __init__(self) -> None:
        super().__init__(parse_event)


def parse_event(line: bytes) -> Event | None:
    """One line as an event; none when it is not one."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    kind, uptime = value.pop("event", None), value.pop("uptime", 0.0)
    if kind not in (*PHASES, "failed", *_ASKED) or isinstance(uptime, bool) or not isinstance(uptime, int | float):
        return None
    try:
        seconds = float(uptime)
    except OverflowError:
        return None
    return Event(kind, seconds, value) if math.isfinite(seconds) else None
