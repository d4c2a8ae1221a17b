"""The guest's serial console, as a growing file: its new lines, its last lines, and the lines that mean the boot is lost."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

TAIL_LINES = 20
_CHUNK = 1 << 20
_LONGEST_LINE = 64 * 1024
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# What a console line shows once nothing more will come, and what it means.
HOPELESS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"device-mapper: verity: (?:[\d:]+: )?((?:data|metadata) block \d+) is corrupted"),
        "verification failed: {0} of the root file system is not what was built",
    ),
    (
        re.compile(r"BdsDxe: failed to (?:load|start) Boot\w+.*: (Access Denied|Security Violation)"),
        "Secure Boot refused the disk: no enrolled key has signed what is on it ({0})",
    ),
    (re.compile(r"BdsDxe: (No bootable option or device was found)"), "the firmware found nothing to start: {0}"),
    (re.compile(r"Kernel panic - not syncing: *(.*)"), "the kernel panicked: {0}"),
    (re.compile(r"(You are in (?:emergency|rescue) mode)"), "systemd gave up: {0}"),
    (re.compile(r"systemd\[1\]: (Freezing execution)"), "systemd gave up: {0}"),
    (re.compile(r"(Failed to (?:mount|switch) root)"), "the root file system is not usable: {0}"),
)


def clean(line: str) -> str:
    """A console line without escape sequences and control characters, fit for a terminal."""
    return _CONTROL.sub("", line).rstrip()


def hopeless(line: str) -> str | None:
    """What a console line says about a lost boot; none when it is an ordinary one."""
    for pattern, meaning in HOPELESS:
        if match := pattern.search(line):
            return meaning.format(match[1].strip()).rstrip(": ")
    return None


class ConsoleWatch:
    """Reads a console file as it grows, from its start or from its present end."""

    def __init__(self, path: Path, *, at_end: bool = False) -> None:
        self.path = path
        self._offset = path.stat().st_size if at_end else 0
        self._rest = b""

    def new_lines(self) -> list[str]:
        """Complete lines since the last call, cleaned."""
        try:
            with self.path.open("rb") as source:
                source.seek(self._offset)
                data = source.read(_CHUNK)
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            # The guest decides what it writes; a line without end must not fill this process's memory.
            lines, self._rest = [*lines, self._rest], b""
        return [clean(line.decode(errors="replace")) for line in lines]

    def verdict(self) -> str | None:
        """What the new lines say about a lost boot, if anything."""
        return next((found for line in self.new_lines() if (found := hopeless(line))), None)


def last_lines(path: Path, count: int = TAIL_LINES) -> list[str]:
    """The last lines of a console or log file, cleaned; none when there is no file."""
    try:
        with path.open("rb") as source:
            size = source.seek(0, 2)
            source.seek(max(0, size - max(_CHUNK, 400 * count)))
            text = source.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return list(deque((clean(line) for line in text.splitlines()), maxlen=count))
