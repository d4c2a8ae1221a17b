"""Which files of the VM a container may mount: everything is refused but what a rule here names.

A source is judged by what its opened descriptor really is, (device, path inside the file system), so that links, `..`, a parent
directory, a volume that is itself a bind, or a later swap all end at the same identity.
"""

from __future__ import annotations

import os

from cofferdam_guest.below import is_below
from cofferdam_guest.linux import mountinfo
from cofferdam_guest.linux.mountinfo import Origin
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.paths import STAGE, STORES
from cofferdam_guest.runtime.socketmounts import DOOR, denial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cofferdam_guest.runtime.context import Context

SHARE_TYPE = "virtiofs"
INJECTED = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}
BUILD_DIRECTORIES = ("buildkit", "overlay2", "tmp")


class Sources:
    """The rules for one container."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._root = context.settings.docker_root
        self._disk = next(self._present((self._root,)))

    def allows(self, origin: Origin, destination: str, *, read_only: bool) -> bool:
        """Tell whether `origin` may appear at `destination`."""
        if self._denied(origin):
            return False
        settings = self._context.settings
        return (
            self._is_share(origin)
            or self._is_volume(origin)
            or self._is_store(origin)
            or self._is_door(origin)
            or (self._is_build_mount(origin) if self._context.is_build else self._is_injected(origin, destination))
            or self._listed(origin, settings.allow_read_write)
            or (read_only and self._listed(origin, settings.allow_read_only))
        )

    def _is_share(self, origin: Origin) -> bool:
        roots = self._context.settings.share_roots
        return origin.mount.fstype == SHARE_TYPE and any(is_below(origin.mount.point, each) for each in roots)

    def _is_volume(self, origin: Origin) -> bool:
        """A directory of the data disk that dockerd keeps a volume in, or a tmpfs that exists as a volume only."""
        inside = self._on_disk(origin)
        if inside is not None:
            return _is_volume_path(inside)
        visible = self._below_root(origin.mount.point)
        if origin.mount.fstype != "tmpfs" or visible is None or not _is_volume_path(visible):
            return False
        return all(
            is_below(each.point, self._root + "/volumes")
            for each in self._context.mounts.values()
            if each.device == origin.mount.device and not is_below(each.point, STAGE)
        )

    def _is_store(self, origin: Origin) -> bool:
        """A directory of the container's own for the layers of an engine inside it."""
        own = f"{STORES}/{self._context.container}"
        return origin.mount.device == self._disk.mount.device and is_below(origin.visible, own) and origin.visible != own

    def _is_door(self, origin: Origin) -> bool:
        """The API proxy's socket, for an image that the policy trusts with it. Raises Refusal with the documented words."""
        if self._context.is_build or not self._listed(origin, (DOOR,)):
            return False
        if reason := denial(self._context.container, self._root):
            raise Refusal("socket-mount", reason)
        return True

    def _is_injected(self, origin: Origin, destination: str) -> bool:
        """What dockerd makes for this container, or for the one whose namespaces it joins."""
        for container in (self._context.container, *self._context.family):
            top = f"/containers/{container}/"
            inside = self._on_disk(origin)
            if inside is not None:
                if inside.startswith(top) and INJECTED.get(inside[len(top) :]) == destination:
                    return True
                continue
            point = self._below_root(origin.mount.point)
            if origin.mount.fstype == "tmpfs" and origin.mount.root == "/" and point is not None:
                if point == top + "mounts/shm" and destination == "/dev/shm":  # noqa: S108 - a destination
                    return True
                if point == top + "mounts/secrets":
                    return True
        return False

    def _is_build_mount(self, origin: Origin) -> bool:
        """BuildKit binds layers, caches and secrets; nobody outside chooses the paths."""
        visible = self._below_root(origin.visible)
        return visible is not None and any(is_below(visible, "/" + each) and visible != "/" + each for each in BUILD_DIRECTORIES)

    def _denied(self, origin: Origin) -> bool:
        """Below a denied path, or around one: who may write the parent could move it out of the way."""
        for rule in self._present(self._context.settings.deny):
            related = is_below(origin.path, rule.path) or is_below(rule.path, origin.path)
            if rule.mount.device == origin.mount.device and related:
                return True
        return False

    def _listed(self, origin: Origin, paths: tuple[str, ...]) -> bool:
        return any(rule.mount.device == origin.mount.device and is_below(origin.path, rule.path) for rule in self._present(paths))

    def _present(self, paths: tuple[str, ...]) -> Iterator[Origin]:
        """What the listed paths really are; those that do not exist are left out, and only those."""
        for path in paths:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                yield mountinfo.origin(fd, self._context.mounts)
            finally:
                os.close(fd)

    def _on_disk(self, origin: Origin) -> str | None:
        """Return the path below dockerd's directory, None when it is elsewhere."""
        if origin.mount.device != self._disk.mount.device or not is_below(origin.path, self._disk.path):
            return None
        return origin.path[len(self._disk.path.rstrip("/")) :]

    def _below_root(self, path: str) -> str | None:
        return path[len(self._root) :] if is_below(path, self._root) else None


def _is_volume_path(path: str) -> bool:
    """/volumes/<name>/_data and below."""
    parts = path.split("/", 4)
    return len(parts) >= 4 and parts[1] == "volumes" and parts[2] != "" and parts[3] == "_data"
