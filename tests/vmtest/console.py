"""Console sessions in a document: what is typed, what is shown of the answer, and whether a real answer is what is shown.

A session is a fenced block marked `console`. A line that begins with `$ ` is typed, `> ` right below it goes on with the same command,
all other lines are what it prints. There `...` alone on a line stands for any number of lines, none included, and within a line for
any text; everything else has to be printed as it is shown, with nothing before, between or after.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_FENCE = "```"
_SESSION = f"{_FENCE}console"
_ANYTHING = "..."


@dataclass(frozen=True)
class Step:
    """One command and the lines that are shown below it; `line` is where it stands in the document."""

    line: int
    command: str
    shown: tuple[str, ...]


def steps(document: str, heading: str) -> list[Step]:
    """The commands of one section of a Markdown document, in order, those of its subsections included.

    Raises:
        ValueError: no such section, a block that is not closed, or a line of a session that no command stands above.
    """
    found: list[Step] = []
    inside, fence, opened = False, "", False
    for number, line in enumerate(document.splitlines(), 1):
        if fence:
            if line == _FENCE:
                fence = ""
            elif inside and fence == _SESSION:
                _take(found, number, line, first=opened)
                opened = False
        elif line.startswith(_FENCE):
            fence, opened = line, True
        elif re.match(r"##? ", line):
            inside = line == f"## {heading}"
    if fence or not found:
        raise ValueError(f"a block is not closed: {fence}" if fence else f"no console session in a section `{heading}`")
    return found


def _take(found: list[Step], number: int, line: str, *, first: bool) -> None:
    if line.startswith("$ "):
        found.append(Step(number, line.removeprefix("$ "), ()))
        return
    if first:
        raise ValueError(f"line {number}: a session begins with `$ `, not with `{line}`")
    last = found[-1]
    if line.startswith("> ") and not last.shown:
        found[-1] = Step(last.line, f"{last.command}\n{line.removeprefix('> ')}", ())
    else:
        found[-1] = Step(last.line, last.command, (*last.shown, line))


def difference(shown: Sequence[str], printed: str) -> str:
    """Where a printed text departs from what is shown of it; empty when it does not.

    Space at the end of a line does not count.
    """
    lines = [line.rstrip() for line in printed.splitlines()]
    parts = _parts(shown)
    if len(parts) == 1:
        return _unlike(parts[0], lines) or _left(lines[len(parts[0]) :])
    first, *middle, last = parts
    if unlike := _unlike(first, lines):
        return unlike
    at = len(first)
    for part in middle:
        start = next((start for start in range(at, len(lines) - len(part) + 1) if not _unlike(part, lines[start:])), None)
        if start is None:
            return f"nowhere behind line {at}: {part[0]!r}" + (
                f" and the {len(part) - 1} lines that follow it" if part[1:] else ""
            )
        at = start + len(part)
    end = len(lines) - len(last)
    if end < at:
        return f"too short: nothing is left for {last[0]!r}"
    return _unlike(last, lines[end:])


def _parts(shown: Sequence[str]) -> list[list[str]]:
    """The lines between those that stand for anything: the first part begins the text, the last one ends it."""
    parts: list[list[str]] = [[]]
    for line in shown:
        if line.strip() == _ANYTHING:
            parts.append([])
        else:
            parts[-1].append(line.rstrip())
    return [part for number, part in enumerate(parts) if part or number in (0, len(parts) - 1)]


def _unlike(part: Sequence[str], lines: Sequence[str]) -> str:
    for number, line in enumerate(part):
        if number >= len(lines):
            return f"too short: {line!r} is missing"
        if not re.fullmatch(".*".join(map(re.escape, line.split(_ANYTHING))), lines[number]):
            return f"{line!r} is shown, {lines[number]!r} is printed"
    return ""


def _left(lines: Sequence[str]) -> str:
    return f"{lines[0]!r} is printed and not shown" if lines else ""
