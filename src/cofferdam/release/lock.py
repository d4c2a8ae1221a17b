"""The lock as a whole: which trees there are, what the suites offer against it, and how it is written and kept."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from debian.debian_support import Version

from cofferdam.kernel.apt import Apt
from cofferdam.kernel.source import lock_contents, locked_candidate, locked_file, newest_capable
from cofferdam.machine.shares import tree as virtiofsd
from cofferdam.paths import cache_home
from cofferdam.profile import load_profile, profile_names
from cofferdam.progress import Progress
from cofferdam.rootfs.base import package_names
from cofferdam.tools.bootstrap import bootstrap
from cofferdam.tools.debian import make_tree
from cofferdam.tools.lists import read_list
from cofferdam.tools.lock import (
    IMAGE_TOOLS,
    KERNEL_SOURCE,
    LOCKS,
    TOOLS,
    VIRTIOFSD,
    Difference,
    Lock,
    read_lock,
    root_tree,
    write_lock,
)
from cofferdam.tools.packages import Contents, Package, listed, package_of
from cofferdam.tools.store import available, fetch, keep
from cofferdam.tools.tree import IMAGE_PACKAGE_LIST, PACKAGE_LIST, SUITE, ensure_tools


@dataclass(frozen=True)
class Tree:
    """A Debian tree that is locked: its suite, mmdebstrap's variant, and the packages that are asked for by name."""

    name: str
    suite: str
    variant: str
    packages: tuple[str, ...]


def trees() -> list[Tree]:
    """All trees that are made from packages; the kernel's source is not one."""
    profiles = [load_profile(name) for name in profile_names()]
    return [
        Tree(TOOLS, SUITE, "apt", tuple(sorted(read_list(PACKAGE_LIST)))),
        Tree(IMAGE_TOOLS, SUITE, "apt", tuple(sorted(read_list(IMAGE_PACKAGE_LIST)))),
        Tree(VIRTIOFSD, virtiofsd.SUITE, "extract", tuple(virtiofsd.PACKAGES)),
        *(
            Tree(root_tree(profile.name), profile.root.suite, "essential", tuple(package_names(profile.packages)))
            for profile in profiles
        ),
    ]


def update(progress: Progress, directory: Path = LOCKS) -> list[str]:
    """Lock what the suites offer now: each tree is made once and what is in it is written down.

    Returns:
        The names of the trees; all files are written after the last of them could be made.

    Raises:
        HostError, BuildError: a tree cannot be made; nothing is written then.
    """
    found: dict[str, Contents] = {}
    made: dict[tuple[str, str, tuple[str, ...]], Contents] = {}
    for tree in trees():
        kind = tree.suite, tree.variant, tree.packages
        if kind not in made:
            with progress.stage("lock", f"{tree.name}: making the tree from what {tree.suite} offers"):
                made[kind] = _made(tree)
        found[tree.name] = made[kind]
    source = newest_capable(load_profile("default").kernel.suites, ensure_tools(progress), progress)
    found[KERNEL_SOURCE] = lock_contents(source)
    for name, contents in found.items():
        write_lock(name, contents, directory)
    for path in directory.glob("*.json"):
        if path.stem not in found:
            path.unlink()
    return list(found)


def _made(tree: Tree) -> Contents:
    home = cache_home()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".lock-") as name:
        archive = Path(name) / "tree.tar"
        return make_tree(tree.suite, archive, _log(), variant=tree.variant, packages=tree.packages)


def _log() -> Path:
    path = cache_home() / "lock.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def compare(progress: Progress, directory: Path = LOCKS) -> list[Difference]:
    """Where the suites offer something else than what is locked; each locked package against the newest of its name.

    Raises:
        BuildError: a lock is missing, or the suites cannot be asked.
    """
    lock = Lock(directory)
    found: list[Difference] = []
    offers: dict[str, dict[tuple[str, str], Package]] = {}
    for tree in trees():
        locked = read_lock(tree.name, directory)
        if tree.suite not in offers:
            with progress.stage("lock", f"asking {tree.suite}"):
                offers[tree.suite] = _offered(tree.suite)
        found += changes(tree.name, locked.packages, offers[tree.suite])
    candidate = locked_candidate(lock.pinned(KERNEL_SOURCE).contents)
    with Apt(ensure_tools(progress), candidate.suite) as apt:
        newest = apt.newest_source()
    if (newest.package, newest.version, newest.sha256) != (candidate.package, candidate.version, candidate.sha256):
        ours, theirs = (f"{each.package} {each.version} ({each.sha256[:12]})" for each in (candidate, newest))
        found.append(Difference(KERNEL_SOURCE, candidate.package, ours, theirs))
    return found


def changes(tree: str, locked: Iterable[Package], offered: dict[tuple[str, str], Package]) -> list[Difference]:
    """The locked packages that are not the newest ones of their name and architecture on offer."""
    found = []
    for package in locked:
        newest = offered.get((package.name, package.architecture))
        if newest != package:
            words = f"{newest.version} {newest.architecture} ({newest.sha256[:12]})" if newest else ""
            ours = f"{package.version} {package.architecture} ({package.sha256[:12]})"
            found.append(Difference(tree, package.name, ours, words))
    return found


def newest(lists: Path) -> dict[tuple[str, str], Package]:
    """The newest package of each name and architecture in apt's lists."""
    found: dict[tuple[str, str], Package] = {}
    for fields in listed(lists):
        package = package_of(fields, fields["SHA256"])
        key = package.name, package.architecture
        if key not in found or Version(package.version) > Version(found[key].version):
            found[key] = package
    return found


def _offered(suite: str) -> dict[tuple[str, str], Package]:
    home = cache_home()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".lock-") as name:
        lists = Path(name) / "lists"
        lists.mkdir()
        hooks = [f"sync-out /var/lib/apt/lists {shlex.quote(str(lists))}"]
        bootstrap(suite, Path(name) / "none.tar", _log(), variant="extract", packages=[], hooks=hooks)
        return newest(lists)


def keep_packages(target: Path, progress: Progress, lock: Lock | None = None) -> int:
    """Copy every locked package file into a directory, for `--locked --packages` after the suites have moved on.

    Returns:
        How many there are.

    Raises:
        BuildError: some are not to be had any more.
    """
    lock = lock or Lock()
    count = set()
    for tree in trees():
        with progress.stage("lock", f"{tree.name}: package files"):
            files = available(lock.pinned(tree.name), tree.suite, partial(fetch, suite=tree.suite, log=_log()))
            keep(files, target)
            count |= set(files)
    with progress.stage("lock", "kernel: package file"):
        files = locked_file(lock.pinned(KERNEL_SOURCE), ensure_tools(progress), _log())
        keep(files, target)
    return len(count | set(files))
