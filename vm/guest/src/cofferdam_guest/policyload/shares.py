"""Mounts the desktop's directories that the policy lets be shared, each at the path it has on the desktop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from cofferdam_guest.config import positions, shares
from cofferdam_guest.config.shares import Share
from cofferdam_guest.linux import libc

CREDENTIAL = "/run/cofferdam/boot-policy/shares.json"
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
# Directories only, made once: no file is ever written beside a share.
_ROOT_OPTIONS = "mode=0755,size=64k,nr_inodes=1k"

Mount = Callable[[str, str, str, int, str | None], None]


def mount_shares(
    folders: Iterable[str] | None, tell: Callable[[str], None], *, path: str = CREDENTIAL, mount: Mount = libc.mount
) -> list[str]:
    """Mount what the host offers and the policy allows; a share that cannot be mounted is left out and told about.

    Args:
        folders: the policy's; none when it does not restrict sharing.
        tell: takes a line for the journal.
        path: the host's document; no file or an empty one is no share.
        mount: mount(2).

    Returns:
        The paths of the mounted ones.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(positions.SIZE_LIMIT + 1)
    except FileNotFoundError:
        return []
    if not text:
        return []
    try:
        offered = shares.from_json(text)
    except shares.ShareError as error:
        tell(f"shares: nothing is shared: {path}: {error}")
        return []
    mounted: list[str] = []
    rooms: set[str] = set()
    for share in offered.shares:
        if reason := shares.problem(share.path):
            tell(f"shares: {share.path} is not shared: {reason}")
        elif not shares.allowed(share.path, folders, offered.variables):
            tell(f"shares: {share.path} is not shared: filesharingAllowedDirectories of the policy does not have it")
        else:
            try:
                _mount(share, rooms, mount)
            except OSError as error:
                tell(f"shares: {share.path} is not shared: {error.strerror or error}")
                continue
            mounted.append(share.path)
    for room in rooms:
        mount("tmpfs", room, "tmpfs", _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, _ROOT_OPTIONS)
    return mounted


def _mount(share: Share, rooms: set[str], mount: Mount) -> None:
    root = shares.root_of(share.path)
    if share.path != root:
        if root not in rooms and not os.path.ismount(root):
            mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, _ROOT_OPTIONS)
            rooms.add(root)
        _make(share.path)
    mount(share.tag, share.path, "virtiofs", _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if share.read_only else 0), None)


def _make(path: str) -> None:
    old = os.umask(0o022)
    try:
        os.makedirs(path, exist_ok=True)
    finally:
        os.umask(old)
