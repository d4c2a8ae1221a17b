"""PowerShell: writes a script where it can be looked at and runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cofferdam.errors import BootError
from cofferdam.machine.hostos import write_private
from cofferdam.run import CommandError, run

Shell = Callable[[Path, str], str]
"""Runs a script, which it writes to that path first, and returns what it printed."""

_PROGRAM = "powershell.exe"
_SECONDS = 600
_LINES = 6


def write_script(path: Path, script: str) -> None:
    """Write a script with a mark of its encoding: without, Windows PowerShell reads it in that of the system's language."""
    write_private(path, b"\xef\xbb\xbf" + script.replace("\n", "\r\n").encode())


def powershell(path: Path, script: str) -> str:
    """Write a script and run it with Windows' own PowerShell.

    Raises:
        BootError: it failed; the message holds its words.
    """
    write_script(path, script)
    words = [_PROGRAM, "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File", str(path)]
    try:
        return run(words, capture=True, timeout=_SECONDS).stdout
    except CommandError as error:
        said = (error.result.stderr or error.result.stdout).strip().splitlines()[:_LINES]
        text = "\n".join([f"{path.name} failed", *(f"    {line}" for line in said or [error.tail])])
        raise BootError(text, hint=f"The script can be read and run by hand: {path}") from error
