"""Which sources of mounts are allowed: default deny.

The wrapper judges again, by the opened file. But dockerd itself, as root of the VM, opens the sources of containers that no
wrapper has seen: for `docker cp`, to make a missing source, to fill a new volume. Those only this verdict can refuse.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cofferdam_guest.apiproxy.images.socketimages import denial
from cofferdam_guest.apiproxy.judge import volumes
from cofferdam_guest.apiproxy.judge.mounts import BIND, TMPFS, VOLUME, Mount
from cofferdam_guest.apiproxy.judge.refusals import not_shared, policy, restricted, spec
from cofferdam_guest.apiproxy.judge.request import Facts
from cofferdam_guest.below import is_below
from cofferdam_guest.config import shares
from cofferdam_guest.config.authorities import BUNDLE
from cofferdam_guest.config.policy import Policy

SOCKET = "/run/docker.sock"
SOCKETS = (SOCKET, f"/var{SOCKET}")
# whoever has one of these, or what is around it, has the engine: no list of a policy's can allow them
PROTECTED = (SOCKET, "/run/cofferdam", "/run/containerd", "/etc/cofferdam", "/var/lib/docker", "/var/lib/cofferdam", "/proc")
# kind and other programs that run a system in a container mount it
MODULES = "/usr/lib/modules"
_OWN_VIEW = "it belongs to the container's own kernel view"


@dataclass(frozen=True)
class Judge:
    """The rules for the mounts of one container.

    Attributes:
        policy: what holds.
        facts: look-ups.
        image: reference or id by which the image is looked up.
        image_name: what the user calls it.
        is_new: the container is yet to be made, so that its image may be missing.
        seen: names of volumes that have been looked up.
    """

    policy: Policy
    facts: Facts
    image: str
    image_name: str
    is_new: bool = False
    seen: set[str] = field(default_factory=set)

    async def check(self, mounts: list[Mount]) -> None:
        """Judge all mounts of a container. Raises Denied."""
        verdicts: dict[str, Callable[[Mount], Awaitable[None]]] = {
            BIND: self._bind,
            VOLUME: self._volume,
            TMPFS: self._tmpfs,
            "image": self._image,
        }
        for mount in mounts:
            if mount.type not in verdicts:
                raise policy("mount", f"mount type {mount.type!r} is not available: use bind, volume, tmpfs")
            await verdicts[mount.type](mount)
            target(mount)

    async def _bind(self, mount: Mount) -> None:
        # dockerd takes \ for / only when it looks whether the path is absolute; then it would be relative to its own directory
        if not mount.source.startswith("/"):
            raise restricted(mount.source)
        path = clean(mount.source)
        resolved = await self.facts.resolve(path)
        if await self._listed(resolved, self.policy.mounts_deny, around=True):
            raise restricted(mount.source)
        if path in SOCKETS and resolved in SOCKETS:
            await self._socket()
        elif any(is_below(resolved, each) for each in self.facts.shares):
            return  # of the desktop; whether it is read-only there is the mount's own to say
        elif mount.read_only and (resolved == BUNDLE or is_below(resolved, MODULES)):
            return  # certificates, or the list of a kernel's modules; nothing else is ever there
        elif _is_protected(resolved) or not await self._allowed(resolved, read_only=mount.read_only):
            raise not_shared(path) if shares.root_of(path) else restricted(mount.source)

    async def _socket(self) -> None:
        if await self.facts.socket_mount_allowed(self.image):
            return
        if self.is_new and self.image and await self.facts.image(self.image) is None:
            return  # dockerd says so, the client pulls it and asks again; and what is made is judged once more at its start
        raise policy("socket-mount", denial(self.image_name))

    async def _allowed(self, resolved: str, *, read_only: bool) -> bool:
        return await self._listed(resolved, self.policy.mounts_allow_read_write) or (
            read_only and await self._listed(resolved, self.policy.mounts_allow_read_only)
        )

    async def _listed(self, resolved: str, rules: tuple[str, ...], *, around: bool = False) -> bool:
        """Whether a rule covers the path; `around`: or lies below it, since who has the parent has what is in it."""
        for each in rules:
            rule = await self.facts.resolve(clean(each))
            if is_below(resolved, rule) or (around and is_below(rule, resolved)):
                return True
        return False

    async def _volume(self, mount: Mount) -> None:
        volumes.check(mount.driver, mount.options)
        if mount.source and mount.source not in self.seen:
            volumes.check_name(mount.source)
            self.seen.add(mount.source)
            found = await self.facts.volume(mount.source)
            if found is not None:
                volumes.check(found.get("Driver") or "", found.get("Options") or {})

    async def _tmpfs(self, mount: Mount) -> None:
        for flag in mount.flags:
            key, equals, _ = flag.partition("=")
            if equals and key not in volumes.TMPFS_VALUES:
                raise spec("mount", f"tmpfs option {key} is not supported")
            if not equals and flag not in volumes.FLAGS:
                raise spec("mount", f"mount option {flag} is not supported")

    async def _image(self, mount: Mount) -> None:
        """An image as a mount holds no file of the VM; engines that do not know it refuse it themselves."""


def target(mount: Mount) -> None:
    """Refuse a place in the container that its kernel view needs. Raises Denied."""
    path = clean(mount.target)
    kernel = is_below(path, "/proc") or is_below(path, "/sys")
    if mount.type == TMPFS:
        kernel = is_below(path, "/proc") or path == "/sys"
    if path in ("/", "/dev") or kernel:
        raise spec("mount", f"can't mount on {mount.target}: {_OWN_VIEW}")


def clean(path: str) -> str:
    """The path as dockerd cleans it: lexically, `..` at the top dropped."""
    return os.path.normpath("/" + path.lstrip("/"))


def _is_protected(path: str) -> bool:
    return any(is_below(path, each) or is_below(each, path) for each in PROTECTED)
