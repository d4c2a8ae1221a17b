"""The data disk: made on first boot, checked, mounted on /var, grown then and later. A disk with anything else on it is refused.

The disk is untrusted input: it is recognised by its own superblock, never formatted unless it is blank, and mounted without
device nodes and setuid programs.
"""

import os
import struct
import sys
import time

from cofferdam_guest.agent import seal
from cofferdam_guest.agent.programs import DiskError, call
from cofferdam_guest.config import dataformat
from cofferdam_guest.config.seal import MAKING
from cofferdam_guest.linux import scsidisk

DEVICE = "/dev/vdb"
MOUNT_POINT = "/var"
LABEL = dataformat.label(dataformat.FORMAT)
DRAFT = "/run/cofferdam-data.draft"
UNCLEAN = "/run/cofferdam-data.unclean"
BLANK_BYTES = 4 * 2**20
MOUNT_OPTIONS = "noatime,nodev,nosuid,discard"
_BLOCK = 64 * 2**10
_SUPERBLOCK = 1024
_MAGIC = 0xEF53
_CLEAN, _ERRORS = 1, 2
_NEEDS_RECOVERY = 0x4
_SMALL_GROWTH = 4 * 2**20
_RESIZE_FS = 0x40086610
_TRIM = 0xC0185879
_SEEN_SECONDS = 20.0
_LARGEST_DRAFT = 2**40
_LABEL_AT = _SUPERBLOCK + 0x78
_FIRST = 4096
_NO_DISK = "there is no data disk ({}): attach one as the second virtio disk"


class Superblock:
    """The fields of an ext4 superblock that decide what to do with the disk."""

    __slots__ = ("clean", "label", "size")

    def __init__(self, label: str, size: int, clean: bool) -> None:
        self.label, self.size, self.clean = label, size, clean


def parse_superblock(data: bytes) -> Superblock | None:
    """Read the superblock in a disk's first bytes (layout: the kernel's fs/ext4/ext4.h); None without an ext file system.

    `size` is in bytes; `clean` means: unmounted in order, no error noted, no journal to replay.
    """
    block = data[_SUPERBLOCK : _SUPERBLOCK + 1024]
    if len(block) < 1024 or struct.unpack_from("<H", block, 0x38)[0] != _MAGIC:
        return None
    low, log_size = struct.unpack_from("<I", block, 0x4)[0], struct.unpack_from("<I", block, 0x18)[0]
    state, incompat = struct.unpack_from("<H", block, 0x3A)[0], struct.unpack_from("<I", block, 0x60)[0]
    high = struct.unpack_from("<I", block, 0x150)[0] if incompat & 0x80 else 0
    label = block[0x78:0x88].split(b"\0")[0].decode("ascii", "replace")
    clean = bool(state & _CLEAN) and not state & _ERRORS and not incompat & _NEEDS_RECOVERY
    return Superblock(label, ((high << 32) + low) << (10 + min(log_size, 6)), clean)


def is_blank(disk: int) -> bool:
    """Whether the first MiBs of the disk (or all of a smaller one) hold nothing but zeros."""
    zeros = bytes(_BLOCK)
    for offset in range(0, BLANK_BYTES, _BLOCK):
        data = os.pread(disk, _BLOCK, offset)
        if data != zeros[: len(data)]:
            return False
    return True


def make(device: str, size: int) -> None:
    """Format a blank disk; tables are initialised lazily by the kernel, so that the first boot is not slower than others.

    Killed meanwhile, the machine finds the disk blank, or by its label half-made, and makes it again: the file system is made in
    memory, where it is a few MiB, and copied in an order that leaves no other state. One that would be too large there is
    made on the disk itself.
    """
    if size > _LARGEST_DRAFT:
        format_disk(device)
        return
    try:
        draft = os.open(DRAFT, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(draft, size)
            format_disk(DRAFT)
            _copy_draft(draft, device, size)
        finally:
            os.close(draft)
            os.unlink(DRAFT)
    except OSError as error:
        raise DiskError(f"the data disk cannot be formatted: {error.strerror}") from error


def format_disk(path: str) -> None:
    """Make the file system on a device or file."""
    features = "lazy_itable_init=1,lazy_journal_init=1,discard,root_owner=0:0"
    call("/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-L", LABEL, "-m", "1", "-E", features, path)


def _copy_draft(draft: int, device: str, size: int) -> None:
    """Copy what does not count as blank; then the superblock, with the label of a half-made one; the rest; the superblock."""
    first = os.pread(draft, _FIRST, 0)
    making = first[:_LABEL_AT] + MAKING.encode().ljust(16, b"\0") + first[_LABEL_AT + 16 :]
    disk = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        _copy_range(draft, disk, BLANK_BYTES, size)
        _write(disk, making, 0)
        _copy_range(draft, disk, _FIRST, min(BLANK_BYTES, size))
        _write(disk, first, 0)
    finally:
        os.close(disk)


def _copy_range(draft: int, disk: int, start: int, end: int) -> None:
    """Copy what is not a hole, and force it to the disk."""
    while start < end:
        try:
            start = os.lseek(draft, start, os.SEEK_DATA)
        except OSError:  # only a hole is left
            break
        hole = min(os.lseek(draft, start, os.SEEK_HOLE), end)
        while start < hole:
            start += os.pwrite(disk, os.pread(draft, min(_BLOCK, hole - start), start), start)
    os.fsync(disk)


def _write(disk: int, data: bytes, offset: int) -> None:
    os.pwrite(disk, data, offset)
    os.fsync(disk)


def check(device: str) -> None:
    """Repair what can be repaired without a question (status 1: repaired)."""
    try:
        call("/usr/sbin/e2fsck", "-p", device, good=(0, 1))
    except DiskError as error:
        text = f"the data disk is damaged: {error}. Repair it on the host with `e2fsck`, or start with a new data disk"
        raise DiskError(text) from error


def prepare(device: str) -> bool:
    """Bring the disk into a state in which it can be mounted; returns whether its file system is to be grown after mounting.

    Raises:
        DiskError: no disk, a foreign disk, one of a newer format, or one that cannot be repaired.
    """
    try:
        disk = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DiskError(_NO_DISK.format(device)) from error
    try:
        size = os.lseek(disk, 0, os.SEEK_END)
        found = parse_superblock(os.pread(disk, 4096, 0))
        blank = found is None and is_blank(disk)
    finally:
        os.close(disk)
    if blank or (found is not None and found.label == MAKING):
        make(device, size)
        return False
    if found is None or (number := dataformat.number(found.label)) is None:
        what = f"an ext file system labelled `{found.label}`" if found else "something that is not a file system of ours"
        raise DiskError(f"the data disk {device} holds {what}; it is not touched. Give the machine a blank disk or its own one")
    if number > dataformat.FORMAT:
        known = f"this image knows formats up to {dataformat.FORMAT}"
        raise DiskError(f"the data disk has format {number}, and {known}; it is not touched. Boot the newer image that made it")
    if not found.clean:
        check(device)
        # What was freed just before the machine ended has not been given back to the host: `trim` does it later.
        os.close(os.open(UNCLEAN, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return size - found.size >= _SMALL_GROWTH


def capacity(device: str) -> int:
    """Bytes that a disk has now."""
    with open(device, "rb") as disk:
        return disk.seek(0, os.SEEK_END)


def extend(device: str, point: str) -> None:
    """Grow the mounted file system to its disk's size.

    By the kernel's own call (EXT4_IOC_RESIZE_FS, include/uapi/linux/ext4.h): a program would want to open the disk for writing,
    which the kernel refuses while it is mounted.
    """
    import fcntl

    directory = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # One after the other: the kernel refuses a second enlargement while one is under way.
        fcntl.flock(directory, fcntl.LOCK_EX)
        fcntl.ioctl(directory, _RESIZE_FS, struct.pack("=Q", capacity(device) // os.statvfs(point).f_frsize))
    except OSError as error:
        raise DiskError(f"the data disk cannot be grown: {error.strerror}") from error
    finally:
        os.close(directory)


def grow(device: str, point: str, size: int) -> int:
    """Grow the mounted file system once the kernel has noticed that the disk has `size` bytes; bytes of the file system then.

    Raises:
        DiskError: it has not noticed in time, or the file system cannot be grown.
    """
    deadline = time.monotonic() + _SEEN_SECONDS
    while capacity(device) < size:
        if time.monotonic() > deadline:
            raise DiskError(f"the data disk has {capacity(device)} bytes for the kernel, not {size}")
        time.sleep(0.05)
    extend(seal.enlarge(device), point)
    found = os.statvfs(point)
    return found.f_blocks * found.f_frsize


def trim(point: str) -> int:
    """Give all free space back to the host (FITRIM, include/uapi/linux/fs.h); bytes of it.

    Raises:
        DiskError: the kernel refuses.
    """
    import fcntl

    directory = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = fcntl.ioctl(directory, _TRIM, struct.pack("=QQQ", 0, 2**64 - 1, 0))
    except OSError as error:
        raise DiskError(f"free space of the data disk is not given back: {error.strerror}") from error
    finally:
        os.close(directory)
    return int(struct.unpack("=QQQ", found)[1])


def device() -> str:
    """The data disk of this machine.

    Raises:
        DiskError: Hyper-V has announced none.
    """
    if not scsidisk.on_hyperv():
        return DEVICE
    try:
        return f"/dev/{scsidisk.await_disk(scsidisk.DATA, _SEEN_SECONDS)}"
    except scsidisk.DiskMissing as error:
        raise DiskError(f"there is no data disk: {error}") from error


def _holds_nothing(device: str) -> bool:
    try:
        disk = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DiskError(_NO_DISK.format(device)) from error
    try:
        return is_blank(disk)
    finally:
        os.close(disk)


def start() -> None:
    """Prepare, mount and grow the data disk.

    Raises:
        DiskError: it cannot be used.
    """
    place = device()
    place = seal.unlock(place, format_disk, blank=_holds_nothing(place))
    larger = prepare(place)
    call("/usr/bin/mount", "-t", "ext4", "-o", MOUNT_OPTIONS, place, MOUNT_POINT)
    if larger:
        extend(place, MOUNT_POINT)


def main(words: list[str]) -> int:
    """Make the disk ready; or, on the disk in use, `grow BYTES` or `trim`, which print bytes that came of it; the exit status."""
    try:
        if words[:1] == ["grow"]:
            print(grow(device(), MOUNT_POINT, int(words[1])))
        elif words == ["trim"]:
            print(trim(MOUNT_POINT))
        else:
            start()
    except DiskError as error:
        print(f"cofferdam: {error}.", file=sys.stderr, flush=True)
        return 1
    return 0
