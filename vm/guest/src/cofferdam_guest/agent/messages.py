"""What the agent and the host say to each other: one JSON object a line. No input or output here.

To the host: `heartbeat`, `userspace`, `docker`, `failed` and, when it asked for them, `units` and `grown` events.
From the host: `{"command": "poweroff"}`, `{"command": "units"}`, `{"command": "clock", "seconds": 1764164123.25}`, the host's
time of day in UTC, and `{"command": "grow", "id": "7f", "bytes": 42949672960}`, the size that the data disk has now. That is
answered by `grown` with the same id and with `bytes`, those of the file system then, or `error`.
"""

import json

JOURNAL_LINES = 20
PHASES = ("userspace", "docker")


def event(name: str, uptime: float, **more: object) -> bytes:
    """One event as a line; `uptime` in seconds since the kernel started."""
    return json.dumps({"event": name, "uptime": round(uptime, 3), **more}, separators=(",", ":")).encode() + b"\n"


def parse_note(line: bytes) -> tuple[str, str] | None:
    """Read a line that a unit wrote to the events FIFO: `(event, unit)`, or None when it is none of ours.

    Known are the phases (`userspace`, `docker`) and `failed UNIT`.
    """
    words = line.decode("ascii", "replace").split()
    if len(words) == 1 and words[0] in PHASES:
        return words[0], ""
    if len(words) == 2 and words[0] == "failed":
        return "failed", words[1]
    return None


def parse_command(line: bytes) -> tuple[str, dict[str, object]]:
    """Read a line from the host: `(command, its other fields)`; the command is empty when the line is none."""
    try:
        fields = json.loads(line)
    except ValueError:
        return "", {}
    command = fields.pop("command", "") if isinstance(fields, dict) else ""
    return (command, fields) if isinstance(command, str) and command else ("", {})


class Lines:
    """Cuts a byte stream into lines; a line longer than `limit` bytes is dropped whole."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes, return the lines that are complete now, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._skipping:
            lines, self._skipping = lines[1:], False
        if len(self._rest) > self._limit:
            self._rest, self._skipping = b"", True
        return [line for line in lines if len(line) <= self._limit]


class History:
    """All events so far, for a host that connects late or again: it is sent them from the first one."""

    def __init__(self) -> None:
        self._data = b""
        self._sent = 0

    def add(self, line: bytes) -> None:
        """Append an event."""
        self._data += line

    def restart(self) -> None:
        """The host has gone: the next one hears everything."""
        self._sent = 0

    @property
    def pending(self) -> bytes:
        """What the connected host has not been sent yet."""
        return self._data[self._sent :]

    def sent(self, count: int) -> None:
        """Note that `count` bytes of `pending` are written."""
        self._sent += count
