"""Run commands on a pseudo terminal and draw what they print as an SVG, which fetches nothing from anywhere.

    python docs/pictures/record.py docs/pictures/first-steps.session docs/pictures/first-steps.svg

A session has a command in each line; one that begins with `!` has to fail, all others have to succeed. The terminal is emulated:
lines that a program redraws are there once, as they are at the end.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import pty
import select
import struct
import sys
import termios
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from cofferdam.errors import CofferdamError
from cofferdam.run import Process, spawn

COLUMNS, LINES = 120, 40
_HIGHEST = 1000
"""Lines of the emulated screen: what a program is not told of, so that nothing scrolls away."""

_NAMES = {"brown": "yellow", "brightbrown": "bright_yellow", "bfightmagenta": "bright_magenta"}
"""Colours that pyte calls otherwise than rich, one by a slip; the others differ in an underscore, or are hexadecimal."""

# Like that of rich, without the web fonts that it names.
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


class WentOtherwise(CofferdamError):
    """A command failed that had to succeed, or the reverse; the message has what the terminal showed."""


@dataclass(frozen=True)
class Command:
    """One line of a session.

    Attributes:
        line: for the shell.
        fails: whether it has to.
    """

    line: str
    fails: bool = False


def session(text: str) -> list[Command]:
    """The commands of a session file; lines that begin with `#` are none."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [Command(line.removeprefix("!").strip(), line.startswith("!")) for line in lines]


def record(commands: Iterable[Command]) -> Text:
    """Run them one after the other; what the terminal shows at the end.

    Raises:
        WentOtherwise: one did not end as it has to.
    """
    screen = pyte.Screen(COLUMNS, _HIGHEST)
    stream = pyte.ByteStream(screen)
    for command in commands:
        stream.feed(b"\r\n" if screen.cursor.y else b"")
        stream.feed(f"\x1b[1;32m$\x1b[0m \x1b[1m{command.line}\x1b[0m\r\n".encode())
        status = _run(command.line, stream)
        if (status != 0) != command.fails:
            message = f"`{command.line}` ended with {status}; the terminal shows:\n{shown(screen).plain}"
            raise WentOtherwise(message, hint="Mend the session, or what it needs.")
        if screen.cursor.x:
            stream.feed(b"\r\n")
    return shown(screen)


def _run(line: str, stream: pyte.ByteStream) -> int:
    """Run a command of the shell; its exit status, once all that it wrote is in the stream."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        process = spawn(["sh", "-c", line], stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm-256color"})
    finally:
        os.close(theirs)
    try:
        while _copy(ours, stream, process):
            pass
    finally:
        os.close(ours)
    return process.wait()


def _copy(ours: int, stream: pyte.ByteStream, process: Process[bytes]) -> bool:
    """Whether there may be more. What a command leaves running may keep the terminal: its own end counts."""
    ended = process.poll() is not None
    if not select.select([ours], [], [], 0 if ended else 0.1)[0]:
        return not ended
    try:
        data = os.read(ours, 1 << 16)
    except OSError as error:
        # Linux says so when nobody has the other end any more.
        if error.errno != errno.EIO:
            raise
        return False
    stream.feed(data)
    return bool(data)


def shown(screen: pyte.Screen) -> Text:
    """What is on a screen, without the empty rest of it."""
    rows = [_row(screen, number) for number in range(screen.cursor.y + 1)]
    while rows and not rows[-1].plain:
        rows.pop()
    return Text("\n").join(rows)


def _row(screen: pyte.Screen, number: int) -> Text:
    row = Text()
    characters = [screen.buffer[number][column] for column in range(screen.columns)]
    for style, run in groupby(characters, _style):
        row.append("".join(character.data for character in run), style)
    row.rstrip()
    return row


def _style(character: pyte.screens.Char) -> Style:
    return Style(
        color=_color(character.fg),
        bgcolor=_color(character.bg),
        bold=character.bold or None,
        italic=character.italics or None,
        underline=character.underscore or None,
        strike=character.strikethrough or None,
        reverse=character.reverse or None,
    )


def _color(name: str) -> str | None:
    if name in _NAMES:
        return _NAMES[name]
    if len(name) == 6 and set(name) <= set("0123456789abcdef"):
        return f"#{name}"
    return None if name == "default" else name.replace("bright", "bright_")


def svg(text: Text, title: str) -> str:
    """A picture of a terminal."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False
    )
    console.print(text, no_wrap=True, crop=False, highlight=False)
    return console.export_svg(title=title, code_format=_SVG)


def main(source: Path, target: Path) -> None:
    """Record a session file and write its picture."""
    text = record(session(source.read_text(encoding="utf-8")))
    target.write_text(svg(text, "Cofferdam"), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
