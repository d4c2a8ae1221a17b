"""The two directories that the project writes to: may it, and is there room."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from cofferdam.doctor.model import Finding, Probe, fail, is_root, ok, warn
from cofferdam.paths import cache_home, state_home

CACHE, STATE = "COFFERDAM_CACHE_HOME", "COFFERDAM_STATE_HOME"
Directory = Callable[[], Path]

# Below the first number of MiB the work fails, below the second it may. The kernel's build takes the most by far.
_FIRST_BUILD = (6 * 1024, 10 * 1024)
_LATER_BUILDS = (2 * 1024, 4 * 1024)
_DATA_DISKS = (1024, 8 * 1024)


def existing(path: Path) -> Path:
    """The directory itself or the nearest one above that there is."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def writable(directory: Directory, variable: str) -> Probe:
    """A probe that writes into a directory, or into the one that it will be made in."""

    def probe() -> Finding:
        path = directory()
        place = existing(path)
        hint = f"Mend {place}, or set {variable} to a directory that can be written."
        if not place.is_dir():
            return fail(f"{place} is not a directory", hint)
        try:
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(b"x")
        except OSError as error:
            return fail(f"{place} cannot be written: {error.strerror}", hint)
        return ok(str(path) if place == path else f"{path}, to be made in {place}")

    return probe


def cache_space() -> Finding:
    """Room for a build: much for the first, less once a kernel is in the cache."""
    built = any(path.is_dir() and not path.suffix for path in (cache_home() / "kernel").glob("*"))
    return _space(cache_home(), _LATER_BUILDS if built else _FIRST_BUILD, CACHE)


def state_space() -> Finding:
    """Room for data disks, which are sparse and grow with what Docker stores."""
    return _space(state_home(), _DATA_DISKS, STATE)


def _space(path: Path, limits: tuple[int, int], variable: str) -> Finding:
    place = existing(path)
    free = shutil.disk_usage(place).free // 2**20
    least, wanted = limits
    text, hint = f"{free} MiB free below {place}, {wanted} MiB are wanted", f"Make room, or set {variable} to a larger disk."
    if free < least:
        return fail(f"{text}, {least} MiB needed", hint)
    return ok(f"{free} MiB free below {place}") if free >= wanted else warn(text, hint)


def reachable() -> Finding:
    """mmdebstrap works with subordinate ids, which are somebody else's to every directory above the cache."""
    if is_root():
        return ok("not needed: this is root")
    place = existing(cache_home())
    closed = [each for each in (place, *place.absolute().parents) if not each.stat().st_mode & 0o001]
    if closed:
        names = " ".join(map(str, closed))
        return fail(f"closed to subordinate ids: {names}", f"chmod o+x {names}, or set {CACHE} to an open directory.")
    return ok(f"{place} is open to subordinate ids")
