"""Builds an image a second time, elsewhere and from the same packages, and names what is not the same."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cofferdam.cache import file_digest, remove_tree
from cofferdam.errors import BuildError, UsageError
from cofferdam.image.build import build_vm
from cofferdam.image.formats import FORMATS, make_artefact
from cofferdam.image.model import CONFIG, HASHES, KERNEL, POLICY, ROOT, Image, open_image
from cofferdam.paths import cache_home
from cofferdam.profile import Profile
from cofferdam.progress import Progress
from cofferdam.release.folder import ingredients
from cofferdam.rootfs.base import build_base
from cofferdam.rootfs.build import build_root
from cofferdam.run import CommandError, run
from cofferdam.tools.lock import IMAGE_TOOLS, KERNEL_SOURCE, TOOLS, Lock, Pinned, root_tree, write_lock
from cofferdam.tools.tree import ToolsTree, ensure_image_tools, ensure_tools

ALL, ROOT_ONLY = "all", "root"
_FILES = (ROOT, HASHES, KERNEL, CONFIG, POLICY)
_SHARED = ("packages", "kernel-source")
"""Directories of the cache that hold nothing but what was downloaded."""

_TREES = ("first", "second")
_DESK = {"TZ": "Pacific/Kiritimati", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "HOME": "/nonexistent", "USER": "somebody"}
"""What the second build finds in its environment."""


@dataclass(frozen=True)
class Outcome:
    """What was compared, and what differs: a line for each file; none when everything is the same."""

    files: list[str]
    different: list[str]
    diffoscope: Path | None = None


def check_reproducible(profile: Profile, image: Image, what: str, progress: Progress) -> Outcome:
    """Build a profile again in a cache of its own at another path, as somebody else, from the packages of its image, and compare.

    Args:
        profile: the recipe; one with ssh has new keys in each image and cannot be the same.
        image: what it was built into.
        what: `all`, its artefacts in every format among it, or `root`, which leaves tools trees, kernel and artefacts out.
        progress: where to report.

    Raises:
        UsageError: another word, or a profile with ssh.
        BuildError: the second build failed.
    """
    if what not in (ALL, ROOT_ONLY):
        raise UsageError(f"--check-reproducible {what}: there is no such part", hint=f"Name `{ALL}` or `{ROOT_ONLY}`.")
    if profile.ssh:
        raise UsageError(f"profile `{profile.name}` has ssh keys that are made per build", hint="Check another profile.")
    tools = ensure_tools(Progress(quiet=True))
    with _elsewhere() as home:
        second = _second(profile, image, what, home, progress)
        pairs = {name: (image.directory / name, second / name) for name in _FILES if (second / name).exists()}
        if what == ALL:
            ours, theirs = _artefacts(image, progress), _second_artefacts(second, home, progress)
            pairs |= {path.name: (path, theirs[format]) for format, path in ours.items()}
        names = list(pairs)
        changed = [name for name, (one, other) in pairs.items() if file_digest(one) != file_digest(other)]
        lines = [name for name in changed if name != ROOT]
        report = None
        if ROOT in changed:
            with progress.stage("reproducible", "comparing the two root file systems"):
                lines += _compare_roots(image.root, second / ROOT, tools, home)
                report = _diffoscope(home, Path(f"cofferdam-{profile.name}-diffoscope.txt"))
    return Outcome(names, lines, report)


def _second(profile: Profile, image: Image, what: str, home: Path, progress: Progress) -> Path:
    """The directory with the second build's files."""
    made = ingredients(image)
    first_tools = ensure_tools(Progress(quiet=True)) if what == ROOT_ONLY else None
    locks = home / "lock"
    for name, contents in ((root_tree(profile.name), made.root), (TOOLS, made.tools), (KERNEL_SOURCE, made.kernel)):
        if contents is not None:
            write_lock(name, contents, locks)
        elif what == ALL:
            raise BuildError("nobody knows what is in the tools tree", hint="Remove `tools` in the cache and build again.")
    lock = Lock(locks)
    with _another_desk(_desk(home)):
        if first_tools is None:
            return build_vm(profile, progress, lock=lock).directory
        base = build_base(profile, progress, "", lock.pinned(root_tree(profile.name)))
        return build_root(profile, first_tools, base, progress).image.parent


def _artefacts(image: Image, progress: Progress, pinned: Pinned | None = None) -> dict[str, Path]:
    return {format: make_artefact(image, format, progress, pinned=pinned).path for format in FORMATS}


def _second_artefacts(directory: Path, home: Path, progress: Progress) -> dict[str, Path]:
    """The artefacts of the second build, by their formats, made by an image tools tree of its own."""
    contents = ensure_image_tools(Progress(quiet=True)).contents
    assert contents is not None
    write_lock(IMAGE_TOOLS, contents, home / "lock")
    with _another_desk(_desk(home)):
        return _artefacts(open_image(directory), progress, Lock(home / "lock").pinned(IMAGE_TOOLS))


def _desk(home: Path) -> dict[str, str]:
    return {"COFFERDAM_CACHE_HOME": str(home / "cache"), **_DESK}


@contextmanager
def _elsewhere() -> Iterator[Path]:
    """A directory beside the cache, whose own cache shares with it what was downloaded."""
    first = cache_home()
    home = Path(tempfile.mkdtemp(dir=first.parent, prefix=f"{first.name}-second-"))
    try:
        # Those who build without root enter it under another id.
        home.chmod(0o755)
        (home / "cache").mkdir()
        for name in _SHARED:
            (first / name).mkdir(parents=True, exist_ok=True)
            (home / "cache" / name).symlink_to(first / name)
        yield home
    finally:
        remove_tree(home)


@contextmanager
def _another_desk(variables: dict[str, str]) -> Iterator[None]:
    """The environment of somebody else, inside the block."""
    before, mask = dict(os.environ), os.umask(0o077)
    os.environ.update(variables)
    os.environ.pop("SOURCE_DATE_EPOCH", None)
    try:
        yield
    finally:
        os.umask(mask)
        os.environ.clear()
        os.environ.update(before)


def _compare_roots(first: Path, second: Path, tools: ToolsTree, home: Path) -> list[str]:
    keep_owners = ["--preserve-owner"] if os.getuid() == 0 else ["--no-preserve-owner"]
    trees = home / "trees"
    trees.mkdir()
    for name, path in zip(_TREES, (first, second), strict=True):
        shutil.copyfile(path, trees / f"{name}.erofs")
        words = ["fsck.erofs", f"--extract=/trees/{name}", "--preserve-perms", *keep_owners, f"/trees/{name}.erofs"]
        tools.run(words, binds={trees: "/trees"}, capture=True)
    found = compare_trees(trees / _TREES[0], trees / _TREES[1])
    return found or [f"{ROOT}: the files are the same, the way they are packed is not"]


def compare_trees(first: Path, second: Path) -> list[str]:
    """What differs between two directory trees, a line a path: missing, or kind, mode, owner, time, target or content."""
    ours, theirs = _paths(first), _paths(second)
    lines = []
    for name in sorted(ours | theirs):
        if name not in theirs:
            lines.append(f"/{name}: only in the first")
        elif name not in ours:
            lines.append(f"/{name}: only in the second")
        elif changed := [fact for fact, look in _FACTS.items() if look(first / name) != look(second / name)]:
            lines.append(f"/{name}: {', '.join(changed)}")
    return lines


def _paths(tree: Path) -> set[str]:
    return {path.relative_to(tree).as_posix() for path in tree.rglob("*")}


def _content(path: Path) -> str:
    return file_digest(path) if stat.S_ISREG(path.lstat().st_mode) else ""


def _target(path: Path) -> str:
    return str(path.readlink()) if path.is_symlink() else ""


_FACTS: dict[str, Callable[[Path], object]] = {
    "kind": lambda path: stat.S_IFMT(path.lstat().st_mode),
    "mode": lambda path: stat.S_IMODE(path.lstat().st_mode),
    "owner": lambda path: (path.lstat().st_uid, path.lstat().st_gid),
    "time": lambda path: path.lstat().st_mtime_ns,
    "target": _target,
    "content": _content,
}


def _diffoscope(home: Path, report: Path) -> Path | None:
    """Its report, when this machine has diffoscope."""
    if shutil.which("diffoscope") is None:
        return None
    try:
        run(["diffoscope", "--text", report.absolute(), *(home / "trees" / name for name in _TREES)], capture=True, check=False)
    except CommandError:
        return None
    return report if report.exists() else None
