"""What the guest refused: told by its messenger as it happens, kept on the host in a bounded file of the instance.

The keeper writes the file (`denied.jsonl`, one JSON object a line); everybody else only reads it. It outlives the machine, whose
own journal is in memory.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cofferdam.machine.channels import LOOPBACK, Address, dial
from cofferdam.machine.console import clean
from cofferdam.machine.events import Stream
from cofferdam.machine.hostos import write_private
from cofferdam.machine.instance import Instance, Record

MOST_LINES = 1000
MOST_BYTES = 1 << 20
# More than what a messenger sends: what is longer comes from something else.
_LONGEST = 1000
# What a full file is cut to, so that not each further line writes it anew.
_KEPT = 3 / 4
_LINE_SECONDS = 0.01
_RETRY_SECONDS = 5.0
_FOLLOW_SECONDS = 0.3
_LATEST_TIME = 2**32


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())


_Text = Annotated[str, Field(max_length=_LONGEST), AfterValidator(_one_line)]


class Denied(BaseModel):
    """One refusal. What does not apply is empty.

    Attributes:
        time: by the guest's clock, in seconds since 1970, UTC.
        rule: short id, see docs/messages.md.
        reason: what the user was told.
        request: method and path, from the API proxy.
        container: its id, from the engine.
        door: of the API proxy: `host`, `container` or `egress`.
        number: counts the refusals of an instance; the host's.
    """

    model_config = ConfigDict(frozen=True)

    time: float = Field(ge=0, lt=_LATEST_TIME, allow_inf_nan=False)
    rule: Annotated[_Text, Field(min_length=1)]
    reason: _Text
    request: _Text = ""
    container: _Text = ""
    image: _Text = ""
    door: _Text = ""
    peer: _Text = ""
    number: int = Field(default=0, ge=0)

    @property
    def when(self) -> str:
        """The time as people read it: ISO 8601, UTC, whole seconds."""
        return datetime.datetime.fromtimestamp(int(self.time), datetime.UTC).isoformat().replace("+00:00", "Z")

    @property
    def what(self) -> str:
        """What was refused: an image with its container, or a request, where they are known."""
        named = f"{self.image} ({self.container[:12]})" if self.image else self.container[:12]
        return named or self.request or self.peer

    def line(self) -> str:
        """The refusal as text."""
        return "  ".join(part for part in (self.when, self.rule, self.what, self.reason) if part)


def parse(line: bytes) -> Denied | None:
    """One line of the guest or of the file; none when it is not one."""
    try:
        return Denied.model_validate_json(line)
    except ValidationError:
        return None


class Log:
    """The file of an instance, for the one process that writes it."""

    def __init__(self, path: Path) -> None:
        self._path, self._lines, self._bytes = path, 0, 0
        found = read(path)
        self._number = max((each.number for each in found), default=0)
        if path.exists():
            # A line that a power cut left half must not take the next one with it.
            self._write([_as_line(each) for each in found])

    def add(self, denied: Denied) -> None:
        """Append a refusal; the oldest go when the file is full."""
        self._number += 1
        data = _as_line(denied.model_copy(update={"number": self._number}))
        if self._lines >= MOST_LINES or self._bytes + len(data) > MOST_BYTES:
            self._cut()
        self._path.touch(mode=0o600)
        with self._path.open("ab") as sink:
            sink.write(data)
        self._lines, self._bytes = self._lines + 1, self._bytes + len(data)

    def _cut(self) -> None:
        lines = self._path.read_bytes().splitlines(keepends=True)
        while lines and (len(lines) > MOST_LINES * _KEPT or sum(map(len, lines)) > MOST_BYTES * _KEPT):
            del lines[: max(1, len(lines) // 10)]
        self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        write_private(self._path, b"".join(lines))
        self._lines, self._bytes = len(lines), sum(map(len, lines))


def _as_line(denied: Denied) -> bytes:
    return denied.model_dump_json().encode() + b"\n"


def read(path: Path) -> list[Denied]:
    """The refusals in a file, oldest first; none when there is no file. A line that a power cut left half is left out."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [found for line in lines if (found := parse(line)) is not None]


async def receive(channel: Address, log: Log) -> None:
    """Write down what the guest refuses until QEMU closes the channel. Raises OSError: it cannot be connected to."""
    stream = Stream(parse)
    client, tls = await asyncio.to_thread(dial, channel, _RETRY_SECONDS), channel.tls
    reader, writer = await asyncio.open_connection(sock=client, ssl=tls, server_hostname=LOOPBACK if tls else None)
    try:
        while data := await reader.read(1 << 16):
            for denied in stream.feed(data):
                log.add(denied)
                # A guest that has been taken over may tell of refusals without end: it waits then.
                await asyncio.sleep(_LINE_SECONDS)
    finally:
        writer.close()


async def keep(instance: Instance, record: Record) -> None:
    """`receive` for ever; for the keeper, which must not end when this cannot be had."""
    while True:
        if record.denied_port:
            with suppress(OSError):
                await receive(Address.from_text(record.denied_port), Log(instance.denied))
        await asyncio.sleep(_RETRY_SECONDS)


def follow(instance: Instance, after: int = 0) -> Iterator[Denied]:
    """Refusals whose number is above `after`, as they come, until the instance ends."""
    seen = None
    while True:
        alive = instance.alive
        # A file that is cut is another one.
        status = instance.denied.stat() if instance.denied.exists() else None
        mark = (status.st_ino, status.st_size) if status else None
        if mark != seen:
            seen = mark
            for denied in read(instance.denied):
                if denied.number > after:
                    after = denied.number
                    yield denied
        if not alive:
            return
        time.sleep(_FOLLOW_SECONDS)
