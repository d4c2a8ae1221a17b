"""The checkout that this project runs from: its commit, and what in it is not in that commit."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from cofferdam.errors import HostError
from cofferdam.paths import ROOT
from cofferdam.run import CommandError, run


@dataclass(frozen=True)
class Checkout:
    """The state of a checkout.

    Attributes:
        commit: what is checked out.
        epoch: the time stamp of that commit, in seconds.
        changed: files that differ from it, new ones included.
    """

    commit: str
    epoch: int
    changed: tuple[str, ...]


def read_checkout(root: Path = ROOT) -> Checkout:
    """The state of the checkout now.

    Raises:
        HostError: it is none, or git is not there.
    """
    try:
        commit, epoch = run(["git", "-C", root, "log", "-1", "--format=%H %ct"], capture=True).stdout.split()
        words = ["git", "-C", str(root), "status", "--porcelain", "-z", "--untracked-files=all"]
        changed = run(words, capture=True).stdout
    except (CommandError, ValueError) as error:
        raise HostError(f"{root} is no git checkout: {error}", hint="Clone the project with git and work there.") from error
    return Checkout(commit, int(epoch), tuple(line[3:] for line in changed.split("\0") if line))


def ignored(path: Path, root: Path = ROOT) -> bool:
    """Whether git leaves a path alone: one outside of the checkout, or one that .gitignore names."""
    if not path.absolute().is_relative_to(root):
        return True
    return run(["git", "-C", str(root), "check-ignore", "--quiet", str(path)], check=False).returncode == 0


def project_version(root: Path = ROOT) -> str:
    """The version that the project gives itself."""
    return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
