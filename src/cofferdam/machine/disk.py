"""The data disk: a sparse raw file that is made once, grown on request, copied whole, and otherwise never touched."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine.hostos import make_sparse

DEFAULT_SIZE = 20 * 2**30
_SECTOR = 4096
"""Bytes that a disk is a multiple of: those of a sealed one are encrypted in pieces of that size."""
_CHUNK = 2**20
_FICLONE = 0x40049409
"""The ioctl of linux/fs.h; Python 3.11 does not name it."""
_ROOM = "Make room, or set COFFERDAM_STATE_HOME to a larger disk."


def ensure_data_disk(path: Path, size: int | None) -> str:
    """Make the disk, or grow it when a larger size is asked for.

    Args:
        path: the image file.
        size: bytes; none keeps an existing disk as it is.

    Returns:
        `created`, `grown` or `kept`.

    Raises:
        UsageError: the wanted size is smaller than the disk.
        InstanceError: the host's disk is full or refuses.
    """
    wanted = None if size is None else -(-size // _SECTOR) * _SECTOR
    current = disk_size(path)
    if current == 0:
        # An empty file is what a killed command leaves between making the file and sizing it.
        _extend(path, wanted or DEFAULT_SIZE)
        return "created"
    if wanted is None or wanted == current:
        return "kept"
    refuse_smaller(path, wanted)
    _extend(path, wanted)
    return "grown"


def disk_size(path: Path) -> int:
    """Bytes that a disk has; 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def refuse_smaller(path: Path, size: int) -> None:
    """Raise when a disk would have to shrink.

    Raises:
        UsageError: `size` bytes are less than the disk has.
    """
    current = disk_size(path)
    if size < current:
        message = f"the data disk of this instance has {human(current)}; it cannot shrink to {human(size)}"
        raise UsageError(message, hint=f"Leave the size out to keep the disk, or give a larger one. The disk is {path}.")


def _extend(path: Path, size: int) -> None:
    fresh = not path.exists()
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            make_sparse(handle)
            os.ftruncate(handle, size)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if fresh:
            path.unlink(missing_ok=True)
        raise InstanceError(f"cannot make the data disk {path}: {error.strerror}", hint=_ROOM) from error


def copy_disk(source: Path, target: Path) -> None:
    """Copy a disk that nobody writes to: sharing its blocks where the file system can, else what is not a hole of it.

    The copy (0600) lies beside the target until it is whole and on the host's disk, then becomes it by one rename.

    Raises:
        InstanceError: there is not enough room, or the host's disk refuses; the target is as it was.
    """
    temporary = temporary_copy(target)
    try:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with source.open("rb") as disk, os.fdopen(handle, "wb", buffering=0) as copy:
            if not _share_blocks(disk.fileno(), copy.fileno()):
                _require_room(source, target.parent)
                _copy_data(disk.fileno(), copy.fileno())
            os.fsync(copy.fileno())
        temporary.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise InstanceError(f"cannot copy {source} to {target}: {error.strerror}", hint=_ROOM) from error
    finally:
        temporary.unlink(missing_ok=True)


def temporary_copy(target: Path) -> Path:
    """Where `copy_disk` writes before the rename; what is there when nobody copies was left by a killed command."""
    return target.with_name(f".{target.name}.new")


def _share_blocks(source: int, target: int) -> bool:
    """Let the target's blocks be the source's until one of them is written to; false where that cannot be done."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def _require_room(source: Path, directory: Path) -> None:
    needed, free = used_bytes(source), shutil.disk_usage(directory).free
    if needed > free:
        raise InstanceError(f"no disk space: {human(needed)} are needed in {directory}, {human(free)} are free", hint=_ROOM)


def _copy_data(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for start, end in _extents(source, size):
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            data = os.read(source, min(_CHUNK, end - start))
            if not data:
                raise OSError(errno.EIO, "the disk became shorter while it was read")
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
            start += len(data)


def _extents(handle: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of each part of a file that is not a hole; of the whole file where the host cannot tell."""
    if sys.platform == "win32":
        yield 0, size
        return
    end = 0
    while end < size:
        try:
            start = os.lseek(handle, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(handle, start, os.SEEK_HOLE)
        yield start, end


def sync_directory(path: Path) -> None:
    """Force to the host's disk which files a directory has, where the host can be asked to."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def used_bytes(path: Path) -> int:
    """What the file really takes on the host; its size where the host does not say."""
    status = path.stat()
    return getattr(status, "st_blocks", status.st_size // 512) * 512


def exact(size: int) -> str:
    """A size as an option takes it, without rounding: `20G`, `1536M`."""
    for letter, unit in (("T", 2**40), ("G", 2**30), ("M", 2**20)):
        if size % unit == 0:
            return f"{size // unit}{letter}"
    return f"{-(-size // 2**10)}K"


def human(size: int) -> str:
    """A size for people: `20G`, `1.5G`, `512M`."""
    for letter, unit in (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10)):
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + letter
    return str(size)
