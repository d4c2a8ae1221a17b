"""What a descriptor really refers to: (device, path inside the file system), from the kernel's mount table.

Source: proc_pid_mountinfo(5), and the mnt_id line of proc_pid_fdinfo(5).
"""

import os

from cofferdam_guest.below import is_below


class Mount:
    """One line of mountinfo: id, device ("8:1"), root inside the file system, mount point, file system type."""

    __slots__ = ("device", "fstype", "id", "point", "root")

    def __init__(self, id: int, device: str, root: str, point: str, fstype: str) -> None:
        self.id = id
        self.device = device
        self.root = root
        self.point = point
        self.fstype = fstype


class Origin:
    """Where an opened file lives: its mount, its path inside that file system, its path as seen from here."""

    __slots__ = ("mount", "path", "visible")

    def __init__(self, mount: Mount, path: str, visible: str) -> None:
        self.mount = mount
        self.path = path
        self.visible = visible


def parse(text: str) -> dict[int, Mount]:
    """Return the mounts of a mountinfo file by mount id."""
    mounts = {}
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        identity, _parent, device, root, point = fields.split(" ")[:5]
        mounts[int(identity)] = Mount(int(identity), device, _unescape(root), _unescape(point), rest.split(" ", 1)[0])
    return mounts


def read(path: str = "/proc/self/mountinfo") -> dict[int, Mount]:
    """Return the mounts of this process's mount namespace by mount id."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())


def mount_id(fd: int) -> int:
    """Return the id of the mount that `fd` was opened on."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                return int(line[7:])
    raise OSError(95, "the kernel does not tell the mount of a descriptor")


def origin(fd: int, mounts: dict[int, Mount]) -> Origin:
    """Return the origin of the open descriptor `fd`.

    Raises FileNotFoundError when the file was deleted or its mount is not in the table: it is then nobody's to give.
    """
    mount = mounts.get(mount_id(fd))
    visible = os.readlink(f"/proc/self/fd/{fd}")
    if mount is None or not is_below(visible, mount.point):
        raise FileNotFoundError(2, "not reachable in the file system", visible)
    if os.fstat(fd).st_nlink == 0:
        raise FileNotFoundError(2, "deleted", visible)
    return Origin(mount, join(mount.root, visible[len(mount.point.rstrip("/")) :]), visible)


def join(top: str, rest: str) -> str:
    """Join two absolute path halves without doubling the slash."""
    return (top.rstrip("/") + rest) or "/"


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
