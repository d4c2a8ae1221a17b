"""The mount API by file descriptors: nothing here resolves a path twice.

Sources: open_tree(2), mount_setattr(2), move_mount(2), openat2(2), fsopen(2), include/uapi/linux/mount.h.
"""

import os
import struct

from cofferdam_guest.linux import libc

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
ATTR_ATIME = 0x70
ATTR_NOATIME = 0x10
ATTR_STRICTATIME = 0x20
ATTR_NODIRATIME = 0x80
ATTR_IDMAP = 0x00100000

MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 437, 442
_AT_EMPTY_PATH = 0x1000
_AT_NO_AUTOMOUNT = 0x800
_OPEN_TREE_CLONE = 1
_MOVE_EMPTY_PATHS = 0x4 | 0x40
_SET_STRING, _SET_FLAG, _CREATE = 1, 0, 6


def clone(fd: int) -> int:
    """Return a descriptor of a detached copy of the mount at `fd`, without what is mounted below it."""
    return libc.syscall(_OPEN_TREE, fd, b"", _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_NO_AUTOMOUNT)


def set_attributes(fd: int, *, add: int = 0, clear: int = 0, private: bool = False, userns: int | None = None) -> None:
    """Change the flags of the mount at `fd`; `userns` (a descriptor) makes it idmapped, `private` ends propagation."""
    if userns is not None:
        add |= ATTR_IDMAP
    attributes = struct.pack("=QQQQ", add, clear, MS_PRIVATE if private else 0, 0 if userns is None else userns)
    libc.syscall(_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, attributes, len(attributes))


def attach(mount: int, target: int) -> None:
    """Mount the detached `mount` on the file or directory that `target` refers to."""
    libc.syscall(_MOVE_MOUNT, mount, b"", target, b"", _MOVE_EMPTY_PATHS)


def create(fstype: str, options: list[tuple[str, str | None]], attributes: int = 0) -> int:
    """Return a descriptor of a new, detached mount of `fstype`; an option without a value is a flag."""
    if any("\0" in each for pair in options for each in pair if each):
        raise OSError(22, "a zero byte in a mount option")
    context = libc.syscall(_FSOPEN, fstype.encode(), 1)
    try:
        for key, value in options:
            if value is None:
                libc.syscall(_FSCONFIG, context, _SET_FLAG, key.encode(), None, 0)
            else:
                libc.syscall(_FSCONFIG, context, _SET_STRING, key.encode(), value.encode(), 0)
        libc.syscall(_FSCONFIG, context, _CREATE, None, None, 0)
        return libc.syscall(_FSMOUNT, context, 1, attributes)
    finally:
        os.close(context)


def open_in_root(root: int, path: str, flags: int = os.O_PATH) -> int:
    """Open `path` with `root` as the root directory: neither `..` nor a symbolic link leads out of it."""
    if "\0" in path:
        raise OSError(22, "a zero byte in the path", path)
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    for _ in range(64):
        try:
            return libc.syscall(_OPENAT2, root, os.fsencode(path), how, len(how))
        except BlockingIOError:  # a rename elsewhere made a `..` ambiguous: the kernel asks to try again
            continue
    raise OSError(11, f"{path}: keeps changing while it is resolved")


def open_path(path: str) -> int:
    """Open `path` without access to its contents, following symbolic links."""
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def make_slave(path: str = "/") -> None:
    """Receive unmounts from the parent mount namespace, send nothing back."""
    libc.mount(None, path, None, MS_REC | MS_SLAVE)


def bind_file(source: str, target: str) -> None:
    """Bind one file on another, by path; used for namespace files."""
    libc.mount(source, target, None, MS_BIND)
