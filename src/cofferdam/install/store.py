"""Installed images: a directory each, named by the checksum of what it was made from, whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cofferdam.cache import file_digest, remove_tree
from cofferdam.errors import CofferdamError, InstanceError
from cofferdam.image.model import Image, open_image
from cofferdam.machine.disk import sync_directory
from cofferdam.machine.hostos import FileLock, private_directory, write_private
from cofferdam.machine.imageref import LOCK, ORIGIN, Origin, image_store, read_origin

HALF_MADE = ".new"
_SECONDS = 600.0
"""How long somebody else may be at it: unpacking, or downloading."""


@contextmanager
def store_locked(seconds: float = _SECONDS) -> Iterator[Path]:
    """Be the only command that changes the store; its directory.

    Raises:
        InstanceError: another command is at it.
    """
    store = private_directory(image_store())
    lock = FileLock(store / LOCK)
    if not lock.acquire(seconds):
        raise InstanceError(f"another command is installing an image into {store}", hint="Wait for it, then do it again.")
    with lock.holding():
        yield store


def install(store: Path, name: str, fill: Callable[[Path], Origin], verified: bool) -> Image:
    """An installed image; made when it is not there, or not as it was. The caller holds the lock.

    Args:
        store: directory of the store.
        name: of the image's directory.
        fill: writes the image's files into an empty directory, and says where they are from.
        verified: whether what it is made from was verified just now.

    Raises:
        InstanceError: the disk is full, or refuses.
        CofferdamError: whatever `fill` raises.
    """
    target, work = store / name, store / f"{name}{HALF_MADE}"
    if (origin := intact(target)) is not None:
        if verified and not origin.verified:
            _write_origin(target, origin.model_copy(update={"verified": True}))
        return open_image(target)
    try:
        remove_tree(work)
        remove_tree(target)
        private_directory(work)
        try:
            _write_origin(work, fill(work))
            sync_directory(work)
            work.rename(target)
            sync_directory(store)
        finally:
            remove_tree(work)
    except OSError as error:
        raise InstanceError(
            f"cannot install an image in {store}: {error.strerror}", hint="Make room, or set COFFERDAM_STATE_HOME."
        ) from error
    return open_image(target)


def intact(directory: Path) -> Origin | None:
    """Where an installed image came from, when it is there with every file as it was; else none."""
    try:
        origin = read_origin(directory)
        if origin is None or {each.name for each in directory.iterdir()} != {*origin.files, ORIGIN}:
            return None
        return origin if all(file_digest(directory / name) == sha256 for name, sha256 in origin.files.items()) else None
    except (CofferdamError, OSError):
        return None


def _write_origin(directory: Path, origin: Origin) -> None:
    write_private(directory / ORIGIN, origin.model_dump_json(indent=1) + os.linesep)
