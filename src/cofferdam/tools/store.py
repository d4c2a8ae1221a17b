"""Package files by checksum: the user's cache, a directory that was kept, and the suites for what is in neither."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from cofferdam.cache import file_digest
from cofferdam.errors import BuildError, UsageError
from cofferdam.paths import cache_home
from cofferdam.tools.bootstrap import bootstrap
from cofferdam.tools.lock import Pinned
from cofferdam.tools.packages import Package

_SAFE = re.compile(r"[A-Za-z0-9.+~:-]+")

# One call is quick, but refuses all when one is gone; then each is asked for alone, and who is missing is seen afterwards.
_DOWNLOAD = """
cd "$1/fetched" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
apt-get download {words} || for word in {words}; do apt-get download "$word" || :; done
"""


def store_path(package: Package) -> Path:
    """Where the user's cache keeps a package file."""
    return cache_home() / "packages" / f"{package.sha256}.deb"


def file_name(package: Package) -> str:
    """Name of a package file as apt writes it: `NAME_VERSION_ARCHITECTURE.deb`."""
    return f"{package.name}_{quote(package.version, safe='+~')}_{package.architecture}.deb"


def available(pinned: Pinned, suite: str, fetch: Callable[[Sequence[Package]], None]) -> dict[Package, Path]:
    """The files of all packages of a lock, each with the checksum that is locked.

    Args:
        pinned: the lock; with a directory of kept packages nothing is fetched.
        suite: who is asked for what is missing, for the message.
        fetch: puts those of the packages that can still be had into the user's cache.

    Raises:
        UsageError: the directory of kept packages is not there.
        BuildError: some are nowhere to be had, or are not what is locked; the message names them.
    """
    if pinned.kept is not None and not pinned.kept.is_dir():
        raise UsageError(f"--packages {pinned.kept}: not a directory", hint="Name one that `inv lock --keep DIR` has written.")
    packages = pinned.contents.packages
    found = _look(packages, pinned.kept)
    if pinned.kept is None and len(found) < len(packages):
        fetch([package for package in packages if package not in found])
        found = _look(packages, None)
    if missing := [package for package in packages if package not in found]:
        place = f"in {pinned.kept}" if pinned.kept else f"offered by {suite}"
        names = "\n".join(f"{package.name} {package.version} {package.architecture}" for package in missing)
        raise BuildError(
            f"{pinned.tree}: locked packages are neither in the cache nor {place}:\n{names}",
            hint="Give the packages of the release with `--packages DIR`, or take today's with `inv lock --update`.",
        )
    return found


def _look(packages: Iterable[Package], kept: Path | None) -> dict[Package, Path]:
    found = {}
    for package in packages:
        for path in (store_path(package), *([kept / file_name(package)] if kept else [])):
            if path.is_file() and file_digest(path) == package.sha256:
                found[package] = path
                break
    return found


def fetch(packages: Sequence[Package], suite: str, log: Path) -> None:
    """Put package files that the suite's sources still offer into the user's cache; what is gone, or differs, is left out.

    Raises:
        BuildError: the sources cannot be read.
    """
    if odd := [package for package in packages if not _SAFE.fullmatch(f"{package.name}{package.version}{package.architecture}")]:
        raise BuildError(f"the lock names a package {odd[0].name} {odd[0].version}", hint="Restore vm/lock with git.")
    words = " ".join(shlex.quote(f"{each.name}={each.version}") for each in packages)
    store = cache_home() / "packages"
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store, prefix=".fetch-") as name:
        directory = Path(name)
        hooks = ['mkdir "$1/fetched"', _DOWNLOAD.format(words=words), f"sync-out /fetched {shlex.quote(name)}"]
        bootstrap(suite, directory / "none.tar", log, variant="extract", packages=[], hooks=hooks)
        for path in directory.glob("*.deb"):
            path.replace(store / f"{file_digest(path)}.deb")


def keep(files: Mapping[Package, Path], directory: Path) -> None:
    """Copy package files into a directory under names for people; what is there and right already stays.

    Raises:
        UsageError: it cannot be written, or there is no room in it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for package, source in files.items():
            target = directory / file_name(package)
            if not (target.is_file() and file_digest(target) == package.sha256):
                temporary = target.with_suffix(".part")
                shutil.copyfile(source, temporary)
                temporary.replace(target)
    except OSError as error:
        hint = "Name a directory that you can write, with room for about 400 MB; what is in it already stays."
        raise UsageError(f"{directory}: {error.strerror}", hint=hint) from error
