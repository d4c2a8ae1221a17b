"""Reads Kconfig files far enough to say what an option depends on: the `depends on` lines around and inside its entries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from cofferdam.kernel.fragments import UNSET

_ENTRY = re.compile(r"(?:menu)?config\s+(\w+)\s*")
_DEFINITION = re.compile(r"^\s*(?:menu)?config\s+(\w+)\s*$", re.MULTILINE)
_DEPENDS = re.compile(r"depends on\s+(.+)")
_IF = re.compile(r"if\s+(.+)")
_SYMBOL = re.compile(r"\b[A-Z0-9_]*[A-Z][A-Z0-9_]*\b")
_OTHER_ENTRY = ("choice", "endchoice", "menu", "endmenu", "comment", "mainmenu", "source")


def dependencies(tree: Path, name: str) -> list[str] | None:
    """What the option depends on, one expression for each condition found; None when no Kconfig file defines it.

    Args:
        tree: the kernel's source.
        name: the option without `CONFIG_`.

    Conditions that menus and `source` lines of *other* files put around it are not followed: this is for messages.
    """
    found: list[str] | None = None
    for path in sorted(tree.rglob("Kconfig*")):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        for conditions in _entries(text, name) if name in text else ():
            found = list(dict.fromkeys([*(found or []), *conditions]))
    return found


def symbols(tree: Path) -> set[str]:
    """Names of all options that the source defines, of every architecture."""
    names: set[str] = set()
    for path in tree.rglob("Kconfig*"):
        if path.is_file():
            names.update(_DEFINITION.findall(path.read_text(encoding="utf-8", errors="replace")))
    return names


def annotate(expression: str, config: Mapping[str, str]) -> str:
    """The expression with each option's value in the configuration behind it: `SCSI [y] && HYPERV [n]`."""
    return _SYMBOL.sub(lambda match: f"{match[0]} [{config.get(match[0], UNSET)}]", expression)


def explain(tree: Path, name: str, config: Mapping[str, str]) -> str:
    """Lines that say what a missing option depends on, with the values that the configuration gives to each part."""
    conditions = dependencies(tree, name)
    if conditions is None:
        return "no Kconfig file of this source defines it"
    if not conditions:
        return "its entry names no dependency: a menu around it may be off, or a choice has another member set"
    return "\n".join(f"depends on {annotate(condition, config)}" for condition in conditions)


def _entries(text: str, name: str) -> Iterator[list[str]]:
    """The conditions of each entry of that name in one file."""
    blocks: list[str] = []
    own: list[str] | None = None
    for line in _logical_lines(text):
        word = line.split(maxsplit=1)[0]
        entry = _ENTRY.fullmatch(line)
        condition = _IF.fullmatch(line)
        if own is not None and (entry or condition or word in ("endif", *_OTHER_ENTRY)):
            yield own
            own = None
        if entry and entry[1] == name:
            own = list(blocks)
        elif condition:
            blocks.append(condition[1])
        elif word == "endif" and blocks:
            blocks.pop()
        elif own is not None and (match := _DEPENDS.fullmatch(line)):
            own.append(match[1])
    if own is not None:
        yield own


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, help texts and continuation marks, with single spaces; never empty."""
    in_help, help_indent = False, 0
    for line in text.replace("\\\n", " ").expandtabs().splitlines():
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        if in_help:
            help_indent = help_indent or indent
            if indent >= max(help_indent, 1):
                continue
            in_help = False
        stripped = " ".join(line.split("#", 1)[0].split())
        if stripped in ("help", "---help---"):
            in_help, help_indent = True, 0
        elif stripped:
            yield stripped
