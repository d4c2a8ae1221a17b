"""Namespaces: identity, ownership, and the new user and time namespace of a container.

Sources: ioctl_nsfs(2), user_namespaces(7), time_namespaces(7).
"""

import os

from cofferdam_guest.linux import libc

_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702


def identity(fd: int) -> tuple[int, int]:
    """Return what makes the namespace (or any file) of `fd` unique: device and inode number."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def of(process: str, kind: str) -> tuple[int, int]:
    """Return the identity of the namespace of `kind` (net, pid, ipc, user, ...) that `process` (an id, or self) is in."""
    status = os.stat(f"/proc/{process}/ns/{kind}")
    return status.st_dev, status.st_ino


def owner(fd: int) -> int:
    """Return a descriptor of the user namespace that owns the namespace `fd`."""
    import fcntl

    return fcntl.ioctl(fd, _NS_GET_USERNS)


def is_child_of_ours(fd: int) -> bool:
    """Tell whether the user namespace `fd` was made directly in the one of this process."""
    import fcntl

    try:
        parent = fcntl.ioctl(fd, _NS_GET_PARENT)
    except PermissionError:  # our own one, or one around it
        return False
    try:
        return identity(parent) == of("self", "user")
    finally:
        os.close(parent)


def id_map(base: int, size: int, other: int = 0) -> str:
    """Return the lines of a uid_map or gid_map in which 0 inside is base + `other`, and `other` inside is base.

    All other ids are base and their own number; an `other` that is not among them changes nothing.
    """
    if not 0 < other < size:
        return f"0 {base} {size}\n"
    lines = ((0, base + other, 1), (1, base + 1, other - 1), (other, base, 1), (other + 1, base + other + 1, size - other - 1))
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in lines if count)


class Nursery:
    """A short-lived child in a new user and a new time namespace whose boot clock starts at zero.

    The namespaces live on through the descriptors `user` and `time`. A child is needed because a process that
    leaves its own time namespace reports a start time that nobody else can match later.
    """

    def __init__(self) -> None:
        self.user = self.time = self._child = -1
        with open("/proc/uptime", encoding="ascii") as file:
            uptime = int(file.read().split(".")[0])
        ready, tell = os.pipe()
        wait, self._hold = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._hold)
            _be_born(tell, wait, uptime)
        os.close(tell)
        os.close(wait)
        try:
            answer = os.read(ready, 200)
            if answer != b"born":
                raise OSError(1, f"new user and time namespaces could not be made: {answer.decode(errors='replace')}")
            self.user = os.open(f"/proc/{self._child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            self.time = os.open(f"/proc/{self._child}/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(ready)

    def map_ids(self, base: int, size: int, user: int = 0, group: int = 0) -> None:
        """Map ids 0..size-1 inside to base..base+size-1; possible once. 0 and `user`, 0 and `group` change places."""
        for name, other in (("uid_map", user), ("gid_map", group)):
            fd = os.open(f"/proc/{self._child}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, id_map(base, size, other).encode())
            finally:
                os.close(fd)

    def close(self) -> None:
        """End the child; the namespaces stay as long as something refers to them."""
        if self._child > 0:
            os.close(self._hold)
            os.waitpid(self._child, 0)
            self._child = -1


def _be_born(tell: int, wait: int, uptime: int) -> None:
    """The child: never returns, and ends with its parent because the pipe closes then."""
    try:
        libc.unshare(libc.CLONE_NEWTIME)
        with open("/proc/self/timens_offsets", "w", encoding="ascii") as file:
            file.write(f"boottime -{uptime} 0\n")
        libc.unshare(libc.CLONE_NEWUSER)
        os.write(tell, b"born")
        os.read(wait, 1)
    except BaseException as error:
        os.write(tell, str(error).encode()[:200])
    finally:
        os._exit(0)
