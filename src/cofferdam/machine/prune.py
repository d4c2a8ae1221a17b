"""Removes from the build cache what nothing current refers to; what it does not know stays.

Kept is what the latest image of each profile and every image in use was made from, and what a build of the current profiles would
find. An image does not name its stages, but its manifest names what came out of them: a stage stays when its result is that.
In use is what a process has on its command line, and what an instance boots or can go back to. Installed images that no instance
refers to go as well.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cofferdam.cache import NotCachedError, digest, file_digest, only_cached, remove_tree
from cofferdam.errors import HostError
from cofferdam.image.build import package_stamp
from cofferdam.image.formats import CONTENT, STAGE, content_of
from cofferdam.image.model import IMAGES, KERNEL, ROOT, Manifest, open_image
from cofferdam.kernel.build import build_kernel
from cofferdam.kernel.source import cached_source
from cofferdam.machine.hostos import FileLock
from cofferdam.machine.imageref import LOCK, image_store
from cofferdam.machine.instance import instances
from cofferdam.machine.kept import read_kept
from cofferdam.paths import cache_home
from cofferdam.profile import Profile, load_profile, profile_names
from cofferdam.progress import Progress
from cofferdam.rootfs.base import build_base
from cofferdam.rootfs.build import build_root
from cofferdam.tools.lock import IMAGE_TOOLS, LOCKS, TOOLS, Lock, Pinned
from cofferdam.tools.tree import ToolsTree, ensure_image_tools, ensure_tools

_KEY = re.compile(r"[0-9a-f]{32}")
_HALF_MADE = ".tmp"


@dataclass(frozen=True)
class Result:
    """What a stage's directory and an image's manifest have in common when the one was made from the other."""

    of_stage: Callable[[Path], object]
    of_image: Callable[[Manifest], object]


def _file(stage_name: str, name: str) -> Result:
    return Result(lambda stage: file_digest(stage / stage_name), lambda image: image.files[name].sha256)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


_RESULTS = {
    "kernel": _file("vmlinuz", KERNEL),
    "root": _file("root.erofs", ROOT),
    "kernel-config": Result(lambda stage: file_digest(stage / "config"), lambda image: image.kernel.config_sha256),
    "kernel-source": Result(lambda stage: _json(stage / "source.json")["sha256"], lambda image: image.kernel.source_sha256),
    "base": Result(
        lambda stage: digest(_json(stage / "packages.json")),
        lambda image: digest(
            {
                "packages": [each.model_dump(mode="json") for each in image.packages],
                "archives": [each.model_dump(mode="json") for each in image.root.archives],
            }
        ),
    ),
    STAGE: Result(lambda stage: (stage / CONTENT).read_text(encoding="ascii"), content_of),
}
_IMAGE_TOOLS = "image-tools"
_STAGES = (*_RESULTS, "image", "tools", _IMAGE_TOOLS)


@dataclass(frozen=True)
class Removal:
    """Something that goes.

    Attributes:
        path: a stage's directory, what is left of a killed build, the link to the latest image of a profile that is no more,
            or an installed image.
        bytes: what its removal frees; files that are in several directories count with the last of them.
    """

    path: Path
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**asdict(self), "path": str(self.path)}


def plan() -> list[Removal]:
    """What can go, nothing removed yet.

    Raises:
        ProfileError, BuildError, PolicyFileError: a profile or what it names cannot be read, so nobody knows what is current.
        InstanceError: nobody can say which images an instance refers to.
    """
    home = cache_home()
    links = [path for path in _children(home / IMAGES) if _old_link(path)]
    images = {path.resolve() for path in _children(home / IMAGES) if path not in links} | images_in_use()
    used = _on_a_command_line((cache_home() / STAGE).resolve()) | _on_a_command_line((cache_home() / _IMAGE_TOOLS).resolve())
    kept = images | current_stages() | _made_into(images) | used
    whole = [path for name in _STAGES for path in _children(home / name) if _KEY.fullmatch(path.name)]
    half = [path for stage in _children(home) for path in _children(stage) if _half_made(path)]
    found = [*links, *(path for path in whole if path.resolve() not in kept), *half, *_installed(images)]
    return _measured(path for path in found if _free(path))


def remove(removals: Iterable[Removal]) -> list[Removal]:
    """Remove what was planned, less what a build holds by now; what went.

    Raises:
        HostError: the cache cannot be written.
    """
    gone = []
    try:
        for removal in removals:
            if _remove(removal.path):
                gone.append(removal)
    except OSError as error:
        raise HostError(f"cannot remove {error.filename}: {error.strerror}", hint="Mend its permissions, then again.") from error
    return gone


def current_stages() -> set[Path]:
    """The stages that a build of the current profiles would find in the cache: those that the build itself asks for."""
    with only_cached() as asked:
        for name in profile_names():
            asked |= _sources(profile := load_profile(name))
            for look in (_look_for_tools, _look_for_image_tools, _look_for_root, _look_for_kernel):
                with suppress(NotCachedError):
                    look(profile)
        for tree, ensure in ((TOOLS, ensure_tools), (IMAGE_TOOLS, ensure_image_tools)):
            if (locked := _locked(tree)) is not None:
                with suppress(NotCachedError):
                    ensure(Progress(quiet=True), locked)
    return {path.resolve() for path in asked}


def _locked(tree: str) -> Pinned | None:
    """What builds from the lock, releases above all, make a tree from; none when nothing is locked."""
    return Lock(LOCKS).pinned(tree) if (LOCKS / f"{tree}.json").exists() else None


def _sources(profile: Profile) -> set[Path]:
    source = cached_source(profile.kernel.suites)
    return set() if source is None else {source.tarball.parent}


def _look_for_tools(_: Profile) -> ToolsTree:
    return ensure_tools(Progress(quiet=True))


def _look_for_image_tools(_: Profile) -> ToolsTree:
    return ensure_image_tools(Progress(quiet=True))


def _look_for_root(profile: Profile) -> None:
    base = build_base(profile, Progress(quiet=True), package_stamp(renew=False))
    build_root(profile, _look_for_tools(profile), base, Progress(quiet=True))


def _look_for_kernel(profile: Profile) -> None:
    source = cached_source(profile.kernel.suites)
    if source is not None:
        build_kernel(profile, _look_for_tools(profile), source, Progress(quiet=True))


def images_in_use() -> set[Path]:
    """Directories of images that a process has on its command line, QEMU above all, or to which an instance refers.

    Raises:
        InstanceError: nobody can say what an instance refers to.
    """
    found = _on_a_command_line((cache_home() / "image").resolve()) | _on_a_command_line(image_store().resolve())
    there = instances()
    records = [record for instance in there if (record := instance.record) is not None]
    found |= {Path(record.ssh_key).parent.resolve() for record in records if record.ssh_key}
    return found | {Path(each.directory).resolve() for instance in there for each in read_kept(instance).references()}


def _on_a_command_line(home: Path) -> set[Path]:
    """What is in a directory and a process was started with; most of all what QEMU boots."""
    pattern = re.compile(re.escape(os.fsencode(home)) + rb"/([^/\0]+)/")
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found |= {home / os.fsdecode(name) for name in pattern.findall(path.read_bytes())}
    return found


def _installed(images: set[Path]) -> list[Path]:
    """Installed images that nothing refers to, and what killed commands left there; nothing while one is being installed."""
    store = image_store()
    with _store_free(store) as free:
        return [path for path in _children(store) if path.name != LOCK and path.resolve() not in images] if free else []


@contextmanager
def _store_free(store: Path) -> Iterator[bool]:
    """Hold the lock of the installed images; false when somebody installs one."""
    lock = FileLock(store / LOCK)
    if not store.is_dir() or not lock.acquire():
        yield False
        return
    with lock.holding():
        yield True


def _made_into(images: Iterable[Path]) -> set[Path]:
    """The stages whose results are in images that were built here; installed ones were made elsewhere."""
    built = [path for path in images if path.is_dir() and path.parent != image_store().resolve()]
    manifests = [Manifest.model_validate_json(open_image(path).manifest.read_bytes()) for path in built]
    wanted = {name: {result.of_image(manifest) for manifest in manifests} for name, result in _RESULTS.items()}
    return {path.resolve() for name in _RESULTS for path in _children(cache_home() / name) if _is_in(path, name, wanted[name])}


def _is_in(stage: Path, name: str, wanted: set[object]) -> bool:
    if not _KEY.fullmatch(stage.name):
        return False
    try:
        return _RESULTS[name].of_stage(stage) in wanted
    except (OSError, ValueError, KeyError, TypeError):
        return True  # nobody knows what it is


def _children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _old_link(path: Path) -> bool:
    """Whether a link leads nowhere or is that of a profile that is no more; one with a dot is just being made."""
    return path.is_symlink() and not path.name.startswith(".") and (path.name not in profile_names() or not path.exists())


def _half_made(path: Path) -> bool:
    return path.suffix == _HALF_MADE and _KEY.fullmatch(path.stem) is not None


def _measured(paths: Iterable[Path]) -> list[Removal]:
    links: defaultdict[tuple[int, int], int] = defaultdict(int)

    def freed(path: Path) -> int:
        total = 0
        for each in [path, *(Path(top, name) for top, below, files in os.walk(path) for name in [*below, *files])]:
            status = each.lstat()
            links[status.st_dev, status.st_ino] += 1
            if stat.S_ISDIR(status.st_mode) or links[status.st_dev, status.st_ino] == status.st_nlink:
                total += status.st_blocks * 512
        return total

    return [Removal(path, freed(path)) for path in paths]


@contextmanager
def _unlocked(path: Path) -> Iterator[bool]:
    """Hold the lock of a stage; false when a build has it. The lock file stays: another build may wait for it."""
    with open(path.with_suffix(".lock"), "a+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _free(path: Path) -> bool:
    """Whether something may go: a link, or what no build has locked; asking makes no lock file."""
    if path.is_symlink() or path.parent == image_store() or not path.with_suffix(".lock").exists():
        return True
    with _unlocked(path) as free:
        return free


def _remove(path: Path) -> bool:
    if path.parent == image_store():
        with _store_free(path.parent) as free:
            # An instance may have come to it since it was planned.
            gone = free and path.resolve() not in images_in_use()
            if gone:
                remove_tree(path)
            return gone
    if path.is_symlink():
        path.unlink(missing_ok=True)
        return True
    with _unlocked(path) as free:
        if not free:
            return False
        half_made = path.with_suffix(_HALF_MADE)
        if path != half_made and path.exists():
            remove_tree(half_made)
            # By one rename: a build finds the whole result or none.
            path.rename(half_made)
        remove_tree(half_made)
        path.with_suffix(".log").unlink(missing_ok=True)
        return True
