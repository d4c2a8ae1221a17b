"""Kernel configuration fragments: read, check, merge; and the reading of a complete `.config`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cofferdam.errors import BuildError
from cofferdam.paths import ROOT

FRAGMENT_DIR = ROOT / "vm/kernel-config"
UNSET = "n"
"""The value of an option that is not in the kernel."""

_SET = re.compile(r"CONFIG_(\w+)=(.+)")
_NOT_SET = re.compile(r"# CONFIG_(\w+) is not set")
_WHY = re.compile(r"# Why: \S.*")


class FragmentError(BuildError):
    """A fragment that is missing, malformed, or at odds with another one."""


@dataclass(frozen=True)
class Option:
    """One requested option: name without `CONFIG_`, value as written (`n` for "is not set"), and where it is asked for."""

    name: str
    value: str
    origin: str

    @property
    def line(self) -> str:
        """The option as a line of a `.config`."""
        return f"# CONFIG_{self.name} is not set" if self.value == UNSET else f"CONFIG_{self.name}={self.value}"


def parse_line(line: str) -> tuple[str, str] | None:
    """Name and value that a `.config` line gives, or None for a comment or an empty line.

    Raises:
        ValueError: the line is neither.
    """
    text = line.strip()
    if match := _SET.fullmatch(text):
        return match[1], match[2]
    if match := _NOT_SET.fullmatch(text):
        return match[1], UNSET
    if not text or text.startswith("# ") or text == "#":
        return None
    raise ValueError(text)


def parse_config(text: str) -> dict[str, str]:
    """Options of a complete `.config`, as the kernel's build wrote it, by name without `CONFIG_`.

    Raises:
        ValueError: a line that is no option and no comment.
    """
    return dict(filter(None, map(parse_line, text.splitlines())))


def fragment_paths(stems: Iterable[str], directory: Path = FRAGMENT_DIR) -> list[Path]:
    """Files of the named fragments.

    Raises:
        FragmentError: one of them does not exist.
    """
    paths = [directory / f"{stem}.config" for stem in stems]
    for path in paths:
        if not path.is_file():
            known = ", ".join(sorted(found.stem for found in directory.glob("*.config")))
            raise FragmentError(
                f"there is no kernel fragment {path}", hint=f"Correct `kernel.fragments` of the profile; there are: {known}."
            )
    return paths


def merge(paths: Iterable[Path]) -> list[Option]:
    """All options of the fragments, in order. No option may be named twice, in one file or in two, not even with the same value.

    Raises:
        FragmentError: a file does not start with its reason, holds a line that is no option, or names an option again.
    """
    seen: dict[str, Option] = {}
    for path in paths:
        for option in _read(path):
            if (first := seen.get(option.name)) is not None:
                verb = "repeats" if first.value == option.value else "contradicts"
                raise FragmentError(
                    f"{option.origin}: `{option.line}` {verb} {first.origin}: `{first.line}`",
                    hint="Keep the option in one fragment only.",
                )
            seen[option.name] = option
    return list(seen.values())


def render(options: Iterable[Option]) -> str:
    """The merged fragment as the kernel's build takes it, sorted: the order of the fragments does not matter."""
    return "".join(f"{option.line}\n" for option in sorted(options, key=lambda option: option.name))


def _read(path: Path) -> Iterator[Option]:
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or not _WHY.fullmatch(lines[0]):
        raise FragmentError(
            f"{path}:1: a fragment starts with `# Why: ` and its reason", hint="Say in the first line why the fragment exists."
        )
    for number, line in enumerate(lines, 1):
        try:
            pair = parse_line(line)
        except ValueError:
            raise FragmentError(
                f"{path}:{number}: not an option: `{line}`",
                hint="Write `CONFIG_NAME=value`, `# CONFIG_NAME is not set` or a `# comment`.",
            ) from None
        if pair is not None:
            yield Option(*pair, origin=f"{path.name}:{number}")
