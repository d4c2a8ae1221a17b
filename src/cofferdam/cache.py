"""Build cache: a stage's result lies under the hash of its inputs, complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from cofferdam.errors import BuildError, CofferdamError
from cofferdam.paths import cache_home
from cofferdam.progress import Progress


def digest(value: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of a JSON-able value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def tree_digest(path: Path, pattern: str = "**/*") -> str:
    """SHA-256 over the names, executable bits, link targets and contents of the files below a directory.

    Python's own by-products (`__pycache__`, `*.egg-info`) do not count.
    """
    rows: list[list[object]] = []
    for item in sorted(path.glob(pattern)):
        relative = item.relative_to(path)
        if any(part == "__pycache__" or part.endswith(".egg-info") for part in relative.parts):
            continue
        mode = item.lstat().st_mode
        if stat.S_ISLNK(mode):
            rows.append([str(relative), "link", str(item.readlink())])
        elif stat.S_ISREG(mode):
            rows.append([str(relative), bool(mode & 0o111), file_digest(item)])
    return digest(rows)


class NotCachedError(CofferdamError):
    """A stage's result is not in the cache, and only what is there was asked for."""


_asked_for: ContextVar[set[Path] | None] = ContextVar("asked_for", default=None)


@contextmanager
def only_cached() -> Iterator[set[Path]]:
    """Inside the block no stage is built: one whose result is not there raises NotCachedError.

    Returns:
        The directories of the stages that were asked for; it fills as they are.
    """
    asked: set[Path] = set()
    token = _asked_for.set(asked)
    try:
        yield asked
    finally:
        _asked_for.reset(token)


class Stage:
    """One cached result: the directory `<cache>/<name>/<key>`.

    It appears by one rename after everything in it has been written; a lock file beside it makes two builders of the same
    key wait for each other, and is held by the kernel, so that a killed builder leaves no lock behind.
    """

    def __init__(self, name: str, key: str) -> None:
        self.name, self.key = name, key[:32]
        self._base = cache_home() / name

    @property
    def path(self) -> Path:
        """Where the finished result lies."""
        return self._base / self.key

    @property
    def ready(self) -> bool:
        """Whether the result is there, whole."""
        return self.path.is_dir()

    @property
    def log(self) -> Path:
        """Full output of the latest build of this key."""
        return self._base / f"{self.key}.log"

    def build(self, make: Callable[[Path, Path], None], progress: Progress, detail: str = "") -> Path:
        """Return the result's directory, made by `make(directory, log)` when it is not there yet.

        Raises:
            BuildError: the disk is full, or whatever `make` raises.
            NotCachedError: inside `only_cached`.
        """
        asked = _asked_for.get()
        if asked is not None:
            asked.add(self.path)
        if self.ready:
            progress.cached(self.name, detail)
            return self.path
        if asked is not None:
            raise NotCachedError(f"{self.name}: not built yet", hint="Run `inv build-vm`.")
        try:
            self._base.mkdir(parents=True, exist_ok=True)
            with self._locked(progress):
                if self.ready:
                    progress.cached(self.name, detail)
                    return self.path
                with progress.stage(self.name, detail):
                    self._make(make)
        except OSError as error:
            raise BuildError(f"{self.name}: {error}", hint=_disk_hint(self._base), log=self.log) from error
        return self.path

    @contextmanager
    def _locked(self, progress: Progress) -> Iterator[None]:
        # Here alone: what boots and checks images takes checksums from this module on Windows, too, which has no such locks.
        import fcntl

        with open(self._base / f"{self.key}.lock", "a+b") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.line(f"{self.name:<14} waiting for another build of the same thing")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make(self, make: Callable[[Path, Path], None]) -> None:
        work = self._base / f"{self.key}.tmp"
        remove_tree(work)
        work.mkdir()
        self.log.unlink(missing_ok=True)
        self.log.touch()
        try:
            make(work, self.log)
            os.sync()
            work.rename(self.path)
        except CofferdamError as error:
            if error.log is None:
                error.log = self.log
            raise
        finally:
            remove_tree(work)


def _disk_hint(path: Path) -> str:
    existing = next(each for each in (path, *path.parents) if each.exists())
    free = shutil.disk_usage(existing).free // 2**20
    return f"{existing} has {free} MiB free: make room, mend its permissions, or set COFFERDAM_CACHE_HOME to another directory."


def write_text(path: Path, text: str) -> None:
    """Replace a small file by one rename, also when others do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a directory tree if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    while path.exists():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue  # somebody who was interrupted is removing it, too
