"""The lock: which package files each Debian tree is made from, in `vm/lock/TREE.json`: names, versions, checksums, no places."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from cofferdam.cache import Stage, digest, write_text
from cofferdam.errors import BuildError, UsageError
from cofferdam.paths import ROOT
from cofferdam.tools.packages import Contents, Package, recorded

LOCKS = ROOT / "vm/lock"
TOOLS, IMAGE_TOOLS, VIRTIOFSD, KERNEL_SOURCE = "tools", "image-tools", "virtiofsd", "kernel"
"""Trees that there is one of; a profile's root is `root-PROFILE`."""

_UPDATE = "Run `inv lock --update`, look at what has changed with `git diff vm/lock`, and build again."


@dataclass(frozen=True)
class Difference:
    """A package that two lists do not agree on; an empty version stands for one that has no such package."""

    tree: str
    name: str
    locked: str
    found: str

    def line(self) -> str:
        """For people."""
        return f"{self.tree}: {self.name}: locked {self.locked or 'not'}, found {self.found or 'not'}"


@dataclass(frozen=True)
class Pinned:
    """A tree that has to be made from the lock and nothing else.

    Attributes:
        tree: its name.
        contents: what is locked.
        kept: directory of package files (`inv lock --keep`) that is used in the place of the suites; none asks the suites.
    """

    tree: str
    contents: Contents
    kept: Path | None = None

    def stage(self, usual: Stage) -> Stage:
        """The usual stage when exactly what is locked is in it already, else one of the lock's own."""
        if usual.ready and (found := recorded(usual.path)) is not None and found.packages == self.contents.packages:
            return usual
        return Stage(usual.name, digest({"usual": usual.key, "lock": self.contents.model_dump(mode="json")}))

    def require(self, found: Contents) -> Contents:
        """What is locked, if it is what was found.

        Raises:
            BuildError: it is not; the message names each package.
        """
        if changed := differences(self.tree, self.contents.packages, found.packages):
            lines = "\n".join(each.line() for each in changed)
            raise BuildError(f"the packages of the tree are not those of the lock:\n{lines}", hint=_UPDATE)
        return self.contents

    def require_names(self, names: Iterable[str]) -> None:
        """Refuse package lists that name what the lock does not have.

        Raises:
            BuildError: they do.
        """
        if missing := sorted(set(names) - {package.name for package in self.contents.packages}):
            raise BuildError(f"vm/lock/{self.tree}.json does not have: {', '.join(missing)}", hint=_UPDATE)


@dataclass(frozen=True)
class Lock:
    """All trees' locks: the directory that holds them, and the one that holds the package files, if any."""

    directory: Path = LOCKS
    kept: Path | None = None

    def pinned(self, tree: str) -> Pinned:
        """One tree's lock.

        Raises:
            BuildError: there is none, or it is not one of this version.
        """
        return Pinned(tree, read_lock(tree, self.directory), self.kept)


def chosen_lock(*, locked: bool, packages: str, refresh: bool) -> Lock | None:
    """The lock that the options of a build ask for; none for what the suites offer.

    Raises:
        UsageError: they exclude each other.
    """
    if packages and not locked:
        raise UsageError("--packages is for builds from the lock", hint="Add `--locked`.")
    if locked and refresh:
        raise UsageError("--refresh and --locked exclude each other", hint="`inv lock --update` locks what the suites offer now.")
    return Lock(kept=Path(packages).absolute() if packages else None) if locked else None


def root_tree(profile: str) -> str:
    """Name of the tree that a profile's root is made from."""
    return f"root-{profile}"


def pinned(lock: Lock | None, tree: str) -> Pinned | None:
    """One tree's lock; none when nothing is locked."""
    return lock.pinned(tree) if lock is not None else None


def read_lock(tree: str, directory: Path = LOCKS) -> Contents:
    """What is locked for a tree.

    Raises:
        BuildError: nothing is, or the file is not one of this version.
    """
    path = directory / f"{tree}.json"
    try:
        return Contents.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BuildError(
            f"nothing is locked for the tree `{tree}`: there is no {path}", hint="Run `inv lock --update`."
        ) from error
    except (ValidationError, UnicodeDecodeError, OSError) as error:
        raise BuildError(f"{path}: {error}", hint="Restore it with git, or run `inv lock --update`.") from error


def write_lock(tree: str, contents: Contents, directory: Path = LOCKS) -> None:
    """Write a tree's lock: a package a line, so that a change is a line of `git diff`."""
    lists: dict[str, list[dict[str, str]]] = contents.model_dump(mode="json")
    blocks = [
        f' "{name}": [\n' + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n ]" for name, rows in sorted(lists.items())
    ]
    write_text(directory / f"{tree}.json", "{\n" + ",\n".join(blocks) + "\n}\n")


def differences(tree: str, locked: Iterable[Package], found: Iterable[Package]) -> list[Difference]:
    """What two lists of packages do not agree on, by name; a version with another checksum is another version."""
    ours, theirs = ({package.name: package for package in packages} for packages in (locked, found))
    return [
        Difference(tree, name, _version(ours.get(name)), _version(theirs.get(name)))
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


def _version(package: Package | None) -> str:
    return f"{package.version} {package.architecture} ({package.sha256[:12]})" if package is not None else ""
