"""Where an engine inside a privileged container keeps its layers: directories of the data disk, not the container's root.

The root is an overlay, and an overlay cannot lie on an overlay: an inner engine would fall back to copying every layer. A store
belongs to one container, outlives its restarts, and is swept away once dockerd no longer knows the container.
"""

from __future__ import annotations

import os

from cofferdam_guest.below import is_below
from cofferdam_guest.linux import mounts
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.paths import STORES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

ALWAYS = "/var/lib/docker"
# the others only where the image has the directory already
PLACES = (ALWAYS, "/var/lib/containerd", "/var/lib/containers", "/var/lib/buildkit", "/var/lib/kubelet", "/var/lib/rancher")


def modify(spec: dict[str, Any], context: Context) -> None:
    """Add a bind for every place that the user has not mounted something on."""
    if context.is_build or not context.is_privileged():
        return
    taken = [os.path.normpath(each["destination"]) for each in spec["mounts"]]
    for place in PLACES:
        if not any(is_below(each, place) or (each != "/" and is_below(place, each)) for each in taken):
            source = _store(context, place)
            if source is not None:
                spec["mounts"].append({"type": "bind", "source": source, "destination": place, "options": ["rbind", "rw"]})


def _store(context: Context, place: str) -> str | None:
    """Return the directory for `place`, made at the container's first start with what the image has there."""
    path = f"{STORES}/{context.container}/{place.replace('/', '-').lstrip('-')}"
    try:
        # dockerd's own mount, not the idmapped one: the copy must have the owners of the image
        seed = mounts.open_in_root(context.unmapped, place, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        if place != ALWAYS:
            return None
        seed = -1
    try:
        if not os.path.isdir(path):
            _make(path, seed)
    finally:
        if seed >= 0:
            os.close(seed)
    return path


def _make(path: str, seed: int) -> None:
    """Make the directory whole or not at all: a copy that was cut off is taken away at the next try."""
    os.makedirs(os.path.dirname(path), 0o711, exist_ok=True)
    temporary = path + ".new"
    if os.path.isdir(temporary):
        _run("/usr/bin/rm", "--recursive", "--force", temporary)
    os.mkdir(temporary)
    os.chmod(temporary, 0o711)  # noqa: S103 - whatever the umask is; the container's root must pass through
    if seed >= 0 and os.listdir(seed):
        _run("/usr/bin/cp", "--archive", f"/proc/{os.getpid()}/fd/{seed}/.", temporary)
    os.rename(temporary, path)


def _run(*argv: str) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)[1])
    if status:
        raise Refusal("store", f"the directory for an inner engine could not be made: {argv[0]} ended with status {status}")
