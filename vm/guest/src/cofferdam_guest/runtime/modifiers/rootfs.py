"""The root file system: a copy of dockerd's mount, idmapped, so that the disk keeps ids from 0 and nothing is chowned."""

from __future__ import annotations

import os

from cofferdam_guest.below import is_below
from cofferdam_guest.linux import mountinfo, mounts
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.paths import STAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

PATH = STAGE + "/root"


def modify(spec: dict[str, Any], context: Context) -> None:
    """Mount the root at a path of our own and point the specification there."""
    source = context.unmapped = mounts.open_path(os.path.join(context.bundle, spec["root"]["path"]))
    _judge(source, context)
    root = mounts.clone(source)
    try:
        mounts.set_attributes(root, add=mounts.ATTR_NODEV, clear=mounts.ATTR_RDONLY, private=True, userns=context.userns)
    except OSError as error:
        raise Refusal("root", f"the root file system cannot be mapped to the container's ids: {error}") from error
    os.mkdir(PATH, 0o755)
    target = mounts.open_path(PATH)
    mounts.attach(root, target)
    os.close(target)
    context.rootfs = root
    # crun would set the flag from inside the user namespace, where it is not locked; see binds.py
    context.read_only = bool(spec["root"].get("readonly"))
    spec["root"] = {"path": PATH, "readonly": False}


def _judge(source: int, context: Context) -> None:
    """Only an overlay that dockerd has mounted may become a root, never a directory of the VM."""
    context.mounts = mountinfo.read()
    try:
        origin = mountinfo.origin(source, context.mounts)
    except FileNotFoundError:
        origin = None
    if (
        origin is None
        or origin.mount.fstype != "overlay"
        or origin.path != "/"
        or not is_below(origin.mount.point, context.settings.docker_root)
    ):
        raise Refusal("root", "the root file system is not one that dockerd made")
