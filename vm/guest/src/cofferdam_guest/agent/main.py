"""The agent: tells the host how far the boot is; powers the machine off, sets its clock, grows its data disk and reports units
when the host asks.

It reads notes of units from a FIFO (descriptor 3 of a socket-activated service) and talks to the host over
the virtio port `org.cofferdam.ready`. It starts before anything else and imports next to nothing.
"""

import os
import select
import signal
import time

from cofferdam_guest.agent import clock, units
from cofferdam_guest.agent.growth import Growths
from cofferdam_guest.agent.messages import JOURNAL_LINES, History, Lines, event, parse_command, parse_note
from cofferdam_guest.linux.virtioport import find_port

PORT_NAME = "org.cofferdam.ready"
EVENTS_FD = 3
_SEARCH_SECONDS = 0.02
_ABSENT_MILLISECONDS = 200


def uptime() -> float:
    """Seconds since the kernel started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def open_port(name: str, deadline: float) -> int | None:
    """Open a port, waiting for it until `deadline` (monotonic seconds); None when the machine has none."""
    while True:
        path = find_port(name)
        if path is not None and os.path.exists(path):
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if time.monotonic() > deadline:
            return None
        time.sleep(_SEARCH_SECONDS)


def journal_tail(unit: str) -> list[str]:
    """The last lines that a unit left in the journal."""
    import subprocess  # noqa: TID251 - the guest has no runner; only on failure, it is too slow to import at boot

    command = ["/usr/bin/journalctl", "--unit", unit, "--lines", str(JOURNAL_LINES), "--output", "cat", "--no-pager", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=30)
    return done.stdout.decode(errors="replace").splitlines()


def note_event(line: bytes) -> bytes | None:
    """The event for the host that a unit's note stands for."""
    note = parse_note(line)
    if note is None:
        return None
    name, unit = note
    now = uptime()
    if name == "failed":
        return event(name, now, unit=unit, journal=journal_tail(unit))
    if name == "docker":
        return event(name, now, kernel=os.uname().release)
    return event(name, now)


def power_off() -> None:
    """Ask systemd for an orderly power-off by its signal: no bus, no program to start."""
    os.kill(1, signal.SIGRTMIN + 4)


class Agent:
    """Copies notes to the host and commands from it.

    Args:
        notes: descriptor of the FIFO that units write to.
        port: descriptor of the virtio port, non-blocking.
    """

    def __init__(self, notes: int, port: int) -> None:
        self._notes, self._port = notes, port
        self._note_lines, self._command_lines = Lines(), Lines()
        self.history = History()
        self._growths = Growths()
        self._units_told = False

    def step(self) -> None:
        """Wait for the next input and handle it."""
        poll = select.poll()
        poll.register(self._notes, select.POLLIN)
        poll.register(self._port, select.POLLIN | (select.POLLOUT if self.history.pending else 0))
        outputs = self._growths.outputs
        for output in outputs:
            poll.register(output, select.POLLIN)
        ready = dict(poll.poll())
        if ready.get(self._notes, 0) & select.POLLIN:
            self._read_notes()
        for output in ready.keys() & set(outputs):
            self._tell_growth(self._growths.read(output))
        state = ready.get(self._port, 0)
        if state & select.POLLIN:
            self._read_commands()
        if state & select.POLLHUP:
            self._await_host()
        elif state & select.POLLOUT:
            self._write()

    def _await_host(self) -> None:
        """Nobody listens: the port stays readable and writable in name only, so watch the FIFO and look again later."""
        self.history.restart()
        poll = select.poll()
        poll.register(self._notes, select.POLLIN)
        if poll.poll(_ABSENT_MILLISECONDS):
            self._read_notes()

    def _read_notes(self) -> None:
        for line in self._note_lines.feed(os.read(self._notes, 4096)):
            message = note_event(line)
            if message is not None:
                self.history.add(message)

    def _read_commands(self) -> None:
        try:
            data = os.read(self._port, 4096)
        except (BlockingIOError, ConnectionError):
            return
        for line in self._command_lines.feed(data):
            self._obey(*parse_command(line))

    def _obey(self, command: str, fields: dict[str, object]) -> None:
        if command == "poweroff":
            power_off()
        elif command == "clock":
            clock.adjust(fields.get("seconds"))
        elif command == "grow":
            self._tell_growth(self._growths.ask(fields.get("id"), fields.get("bytes")))
        elif command == "units" and not self._units_told:
            # From then on they are part of the history, which whoever asks again is sent anyway.
            self._units_told = True
            self.history.add(event("units", uptime(), units=units.unit_times()))

    def _tell_growth(self, answer: dict[str, object] | None) -> None:
        if answer is not None:
            self.history.add(event("grown", uptime(), **answer))

    def _write(self) -> None:
        try:
            self.history.sent(os.write(self._port, self.history.pending))
        except (BlockingIOError, ConnectionError):
            return


def main() -> None:
    """Run until the machine ends; without a port there is nobody to talk to, and nothing to do."""
    port = open_port(PORT_NAME, time.monotonic() + 30)
    if port is None:
        return
    agent = Agent(EVENTS_FD, port)
    agent.history.add(event("heartbeat", uptime()))
    while True:
        agent.step()
