"""The container's /dev: a tmpfs of its own with nodes of its own.

crun would bind the VM's nodes into it, and give those which are a standard stream to the container's root: a container could
then take /dev/null away from the whole VM. With a bind on /dev crun leaves the directory alone.
"""

from __future__ import annotations

import os

from cofferdam_guest.linux import mounts, paths
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.paths import STAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

PATH = STAGE + "/dev"
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore",
    "ptmx": "pts/ptmx",
}
DIRECTORIES = ("pts", "shm", "mqueue")
_SIZE = "64m"
_CHARACTER_DEVICE = 0o020000
_NULL = os.makedev(1, 3)


def modify(spec: dict[str, Any], context: Context) -> None:
    """Make the directory, point the specification to it, and put standard streams on /dev/null onto our own."""
    entries = [each for each in spec["mounts"] if os.path.normpath("/" + each["destination"].lstrip("/")) == "/dev"]
    if len(entries) != 1 or entries[0]["type"] != "tmpfs":
        raise Refusal("mount", "can't mount on /dev: it belongs to the container's own kernel view")
    owner = [("uid", str(context.base)), ("gid", str(context.base))]
    tree = mounts.create("tmpfs", [("source", "tmpfs"), ("mode", "0755"), ("size", _SIZE), *owner], mounts.ATTR_NOSUID)
    with paths.FileIds(context.base, context.base):
        _populate(tree, context, bool(spec["process"].get("terminal")))
    os.mkdir(PATH, 0o755)
    target = mounts.open_path(PATH)
    mounts.attach(tree, target)
    os.close(target)
    os.close(tree)
    entries[0].update({"type": "bind", "source": PATH, "options": ["bind", "rprivate", "nosuid"]})
    _replace_null()


def _populate(tree: int, context: Context, terminal: bool) -> None:
    for path, (_kind, major, minor) in context.nodes.items():
        parent, _, name = path[len("/dev/") :].rpartition("/")
        if path.split("/")[2] in (*DIRECTORIES, *LINKS, "console"):
            raise Refusal("device", f"device {path}: the place belongs to the container's own /dev")
        directory = paths.ensure(tree, "/" + parent, directory=True)
        os.mknod(name, _CHARACTER_DEVICE | 0o666, os.makedev(major, minor), dir_fd=directory)
        os.close(directory)
    for name, target in LINKS.items():
        os.symlink(target, name, dir_fd=tree)
    for name in DIRECTORIES:
        os.mkdir(name, 0o755, dir_fd=tree)
    if terminal:
        os.close(paths.ensure(tree, "/console", directory=False))


def _replace_null() -> None:
    for fd in (0, 1, 2):
        try:
            on_null = os.fstat(fd).st_rdev == _NULL
        except OSError:
            continue  # closed, which crun handles
        if on_null:
            own = os.open(PATH + "/null", os.O_RDWR | os.O_CLOEXEC)
            os.dup2(own, fd, inheritable=True)
            os.close(own)
