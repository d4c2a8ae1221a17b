"""SHA256SUMS: the checksums of everything in a release folder, in the format of `sha256sum --check`."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from cofferdam.cache import file_digest
from cofferdam.release.manifest import PACKAGES, SIGNATURE, SUMS

_LINE = re.compile(r"([0-9a-f]{64})  ((?:packages/)?[A-Za-z0-9][A-Za-z0-9._+~%-]*)")
_NOT_COVERED = {SUMS, SIGNATURE}


class FolderError(ValueError):
    """Something in a folder that must not be in a release."""


def contents(folder: Path) -> list[str]:
    """Names of all files of a folder but the sums and their signature, relative to it.

    Raises:
        FolderError: there is a link, a device, or a directory that a release does not have.
    """
    names = []
    for top, directories, files in os.walk(folder):
        for name in [*directories, *files]:
            path = Path(top, name)
            relative, mode = path.relative_to(folder).as_posix(), path.lstat().st_mode
            if stat.S_ISDIR(mode) and relative == PACKAGES:
                continue
            if not stat.S_ISREG(mode):
                raise FolderError(f"{relative} is not an ordinary file")
            names.append(relative)
    return sorted(set(names) - _NOT_COVERED)


def make_sums(folder: Path) -> str:
    """The text of SHA256SUMS for what is in a folder."""
    return "".join(f"{file_digest(folder / name)}  {name}\n" for name in contents(folder))


def parse_sums(text: str) -> dict[str, str]:
    """Checksums by name.

    Raises:
        FolderError: a line that is not one, a name that leads elsewhere, or one that stands there twice.
    """
    found: dict[str, str] = {}
    if not text.endswith("\n"):
        raise FolderError("its last line has no end")
    for number, line in enumerate(text[:-1].split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise FolderError(f"line {number} is not `SHA256  NAME` with a name of this folder")
        if match[2] in found or match[2] in _NOT_COVERED:
            raise FolderError(f"line {number} names {match[2]}, which must not stand there")
        found[match[2]] = match[1]
    return found


def compare(folder: Path, sums: Mapping[str, str]) -> list[str]:
    """What is wrong with the files of a folder by its sums: missing, not covered, or changed; a line each."""
    there = contents(folder)
    lines = [f"{name} is missing" for name in sorted(set(sums) - set(there))]
    lines += [f"{name} is not in {SUMS}" for name in there if name not in sums]
    both = [name for name in there if name in sums]
    return lines + [f"{name} is not the file that was released" for name in both if file_digest(folder / name) != sums[name]]
