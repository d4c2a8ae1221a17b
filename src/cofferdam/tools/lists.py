"""List files of the project: one item a line, comments start with `#`."""

from __future__ import annotations

from pathlib import Path

from cofferdam.errors import BuildError


def read_list(path: Path) -> list[str]:
    """Items of a list file, in its order.

    Raises:
        BuildError: there is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise BuildError(f"there is no list {path}", hint="Correct the name in the profile.") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
