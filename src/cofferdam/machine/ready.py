"""Waiting for the guest: its own messages, with an eye on everything that makes further waiting pointless."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cofferdam.errors import BootError
from cofferdam.machine.channels import receive
from cofferdam.machine.console import TAIL_LINES, ConsoleWatch, clean, last_lines
from cofferdam.machine.events import PHASES, Event, EventStream

_TICK = 0.2
_LONGEST_TEXT = 400


class NoHeartbeat(BootError):
    """The guest said nothing in the time a hardware accelerator has for it."""


class MachineEnded(BootError):
    """QEMU ended before the guest was ready."""


@dataclass
class Timeline:
    """When the phases were reached.

    Attributes:
        seconds: phase -> seconds after power-on, by the host's clock.
        uptime: phase -> seconds after the kernel's start, by the guest's clock.
        kernel: the guest kernel's release, once known.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    uptime: dict[str, float] = field(default_factory=dict)
    kernel: str = ""

    def note(self, event: Event, elapsed: float) -> None:
        """Record a phase."""
        self.seconds[event.kind] = round(elapsed, 2)
        self.uptime[event.kind] = round(event.uptime, 2)
        self.kernel = _text(event.data.get("kernel", self.kernel))


@dataclass(frozen=True)
class Watched:
    """What a wait looks at.

    Attributes:
        port: connected ready port.
        console: file of the serial console.
        log: file of QEMU's own messages.
        exit_status: QEMU's exit status, or none while it runs.
        timeout: seconds until Docker must be ready.
        heartbeat: seconds until the first message; none when only `timeout` counts.
    """

    port: socket.socket
    console: Path
    log: Path
    exit_status: Callable[[], int | None]
    timeout: float
    heartbeat: float | None = None


class Waiter:
    """One wait for one boot; starts counting when it is made, which is to be just before the machine runs."""

    def __init__(self, watched: Watched, say: Callable[[str], None]) -> None:
        self._watched = watched
        self._say = say
        self._start = time.monotonic()
        self._console = ConsoleWatch(watched.console)
        self._stream = EventStream()
        self.timeline = Timeline()

    def wait(self) -> Timeline:
        """Return when Docker is ready.

        Raises:
            NoHeartbeat: no message in time.
            MachineEnded: QEMU is gone.
            BootError: panic, failed unit, or the time is over. The message holds the console's last lines.
        """
        self._watched.port.setblocking(False)
        while "docker" not in self.timeline.seconds:
            if select.select([self._watched.port], [], [], _TICK)[0]:
                self._receive()
            self._check()
        return self.timeline

    def _receive(self) -> None:
        data = b""
        with contextlib.suppress(BlockingIOError, ConnectionError, ssl.SSLWantReadError):
            data = receive(self._watched.port)
        if not data:
            # QEMU has closed its end: let it finish dying; the check says how.
            time.sleep(_TICK)
        for event in self._stream.feed(data):
            self._take(event)

    def _take(self, event: Event) -> None:
        if event.kind == "failed":
            journal = event.data.get("journal")
            lines = [_text(line) for line in journal[-TAIL_LINES:]] if isinstance(journal, list) else []
            raise self._error(BootError, f"{_text(event.data.get('unit', 'a unit'))} failed in the guest", lines)
        if event.kind not in PHASES or event.kind in self.timeline.seconds:
            return
        elapsed = time.monotonic() - self._start
        self.timeline.note(event, elapsed)
        following = PHASES[PHASES.index(event.kind) + 1 :]
        waiting = f", waiting for {_NAMES[following[0]]}" if following else ""
        self._say(f"{_NAMES[event.kind]} up after {elapsed:.1f} s{waiting}")

    def _check(self) -> None:
        elapsed = time.monotonic() - self._start
        watched = self._watched
        status = watched.exit_status()
        if lost := self._console.verdict():
            raise self._error(BootError, f"the guest did not boot: {lost}")
        if status is not None:
            raise self._error(MachineEnded, f"QEMU ended with status {status} after {elapsed:.1f} s", last_lines(watched.log, 5))
        if watched.heartbeat is not None and not self.timeline.seconds and elapsed > watched.heartbeat:
            raise self._error(NoHeartbeat, f"the guest gave no heartbeat within {watched.heartbeat:.0f} s")
        if elapsed > watched.timeout:
            reached = ", ".join(_NAMES[phase] for phase in self.timeline.seconds) or "nothing"
            raise self._error(BootError, f"Docker was not ready within {watched.timeout:.0f} s; up so far: {reached}")

    def _error(self, kind: type[BootError], message: str, more: list[str] | None = None) -> BootError:
        lines = [f"    {line}" for line in more or []]
        console = [f"  | {line}" for line in last_lines(self._watched.console)]
        if console:
            console.insert(0, "  last lines of the console:")
        hint = "Boot the profile debug for more, or give --timeout more seconds when the machine is slow."
        return kind("\n".join([message, *lines, *console]), hint=hint, log=self._watched.console)


def _text(value: object) -> str:
    """A value of the guest, fit for a terminal: the guest is not trusted."""
    return " ".join(clean(str(value)[:_LONGEST_TEXT]).split("\n"))


_NAMES = {"heartbeat": "kernel", "userspace": "user space", "docker": "Docker"}
