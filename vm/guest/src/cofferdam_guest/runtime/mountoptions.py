"""The option lists of mount entries: which are flags, which are the file system's, which are nobody's business.

Source: the mount options table of the OCI runtime specification.
"""

from __future__ import annotations

from cofferdam_guest.linux.mounts import (
    ATTR_ATIME,
    ATTR_NOATIME,
    ATTR_NODEV,
    ATTR_NODIRATIME,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_RDONLY,
    ATTR_STRICTATIME,
)
from cofferdam_guest.runtime.errors import Refusal

SET = {
    "ro": ATTR_RDONLY,
    "rro": ATTR_RDONLY,
    "nosuid": ATTR_NOSUID,
    "rnosuid": ATTR_NOSUID,
    "nodev": ATTR_NODEV,
    "rnodev": ATTR_NODEV,
    "noexec": ATTR_NOEXEC,
    "rnoexec": ATTR_NOEXEC,
    "noatime": ATTR_NOATIME,
    "rnoatime": ATTR_NOATIME,
    "strictatime": ATTR_STRICTATIME,
    "nodiratime": ATTR_NODIRATIME,
}
# what is the default anyway, and propagation: nothing ever propagates between the VM and a container
IGNORED = {"bind", "rbind", "rw", "rrw", "suid", "dev", "exec", "relatime", "diratime", "async", "defaults"}
# options of tmpfs itself that dockerd lets through; see tmpfs(5)
TMPFS = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"))
IGNORED |= {"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"}


def flags(options: list[str]) -> int:
    """Return the MOUNT_ATTR_* bits for the options of a bind. Raises Refusal for one that is not known."""
    found = 0
    for option in options:
        if option in SET:
            found |= SET[option]
        elif option not in IGNORED:
            raise Refusal("mount", f"mount option {option} is not supported")
    return found


def atime_clear(attributes: int) -> int:
    """Return what must be cleared so that the access time setting in `attributes` can be made."""
    return ATTR_ATIME if attributes & ATTR_ATIME else 0


def tmpfs(options: list[str], base: int, size: int) -> tuple[int, list[tuple[str, str | None]]]:
    """Return (MOUNT_ATTR_* bits, file system options) of a tmpfs of the container with the `size` ids from `base` on.

    Raises Refusal for an unknown option, and for an owner outside the container.
    """
    own: dict[str, str | None] = {"source": "tmpfs", "uid": "0", "gid": "0", "mode": "1777"}
    plain = []
    for option in options:
        key, equals, value = option.partition("=")
        if equals:
            if key not in TMPFS:
                raise Refusal("mount", f"tmpfs option {key} is not supported")
            own[key] = value
        else:
            plain.append(option)
    for key in ("uid", "gid"):
        owner = own[key] or ""
        if not (owner.isascii() and owner.isdecimal() and int(owner) < size):
            raise Refusal("mount", f"tmpfs option {key}={owner} is not an id of the container")
        own[key] = str(base + int(owner))
    return flags(plain), list(own.items())
