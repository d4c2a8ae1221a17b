"""Find or make a mount point inside a container's root, as that container's root user.

The tree is under the control of others (images, volumes shared with running containers), so every step goes by
descriptor and no lookup can leave the root.
"""

import os

from cofferdam_guest.linux import libc, mounts

_LINKS = 40


class FileIds:
    """Context manager: create and look up files as `uid`/`gid` while keeping the capabilities of root.

    In an idmapped mount the real root has no id at all; the container's root has, and owns what it creates.
    """

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid
        self._bits = 0
        self._mask = 0

    def __enter__(self) -> None:
        self._bits = libc.prctl(libc.PR_GET_SECUREBITS, 0)
        # without this bit the kernel drops the file capabilities as soon as the id is not 0
        libc.prctl(libc.PR_SET_SECUREBITS, self._bits | libc.SECBIT_NO_SETUID_FIXUP)
        libc.setfsids(self.uid, self.gid)
        self._mask = os.umask(0)

    def __exit__(self, *_: object) -> None:
        os.umask(self._mask)
        libc.setfsids(0, 0)
        libc.prctl(libc.PR_SET_SECUREBITS, self._bits)


def ensure(root: int, path: str, *, directory: bool, links: int = _LINKS) -> int:
    """Return an O_PATH descriptor of `path` below `root`, made as an empty file or directory when it is missing.

    Raises OSError: ELOOP for endless links, ENOTDIR/EISDIR when something of the other kind is in the way.
    """
    try:
        return _right_kind(mounts.open_in_root(root, path), path, directory)
    except FileNotFoundError:
        pass
    if links == 0:
        raise OSError(40, "too many symbolic links", path)
    head, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise FileNotFoundError(2, "not a place to mount on", path)
    parent = ensure(root, head or "/", directory=True, links=links - 1)
    try:
        return _make(root, parent, head, name, directory, links)
    finally:
        os.close(parent)


def _make(root: int, parent: int, head: str, name: str, directory: bool, links: int) -> int:
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644, dir_fd=parent))
    except FileExistsError:
        return _follow(root, parent, head, name, directory, links)
    return _right_kind(mounts.open_in_root(parent, name, os.O_PATH | os.O_NOFOLLOW), name, directory)


def _follow(root: int, parent: int, head: str, name: str, directory: bool, links: int) -> int:
    """A dangling link, or somebody was faster."""
    try:
        target = os.readlink(name, dir_fd=parent)
    except OSError:
        return _right_kind(mounts.open_in_root(parent, name, os.O_PATH | os.O_NOFOLLOW), name, directory)
    return ensure(root, target if target.startswith("/") else f"{head}/{target}", directory=directory, links=links - 1)


def _right_kind(fd: int, path: str, directory: bool) -> int:
    mode = os.fstat(fd).st_mode & 0o170000
    if (mode == 0o040000) == directory and mode != 0o120000:
        return fd
    os.close(fd)
    raise OSError(20 if directory else 21, "a directory is needed" if directory else "a file is needed", path)
