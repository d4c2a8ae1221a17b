"""The engine's settings: the image's /etc/cofferdam/engine.json with the policy's mounts, as the policy loader wrote it at boot.

A missing, unreadable or wrong file is an error, never a default: without settings nothing is started. The same holds for a
file with the key `refuse`, which says why the policy lets nothing start.
"""

from __future__ import annotations

import os

from cofferdam_guest.config import jsonlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATH = "/run/cofferdam/policy/engine.json"
BAKED = "/etc/cofferdam/engine.json"
VERSION = 1
_LIMIT = 1 << 20


class SettingsError(Exception):
    """The settings cannot be used; the message names the file and the key."""


class EngineSettings:
    """What the runtime wrapper needs to know.

    docker_root    directory of dockerd's data
    docker_daemon  dockerd's program, the only one whose hooks run
    first, size, count   the id pool
    share_roots    where directories of the desktop are mounted (virtiofs)
    allow_read_only, allow_read_write   further VM files or directories that containers may mount
    deny           VM or share paths refused even where a rule allows what is around them
    """

    __slots__ = (
        "allow_read_only",
        "allow_read_write",
        "count",
        "deny",
        "docker_daemon",
        "docker_root",
        "first",
        "share_roots",
        "size",
    )

    def __init__(self, document: dict[str, Any]) -> None:
        if isinstance(document, dict) and "refuse" in document:
            raise SettingsError(f"nothing may be started: {document['refuse']}")
        _only(document, "the settings", ("version", "docker", "ids", "shares", "mounts"))
        if document["version"] != VERSION:
            raise SettingsError(f"version {document['version']!r} is not {VERSION}")
        docker, ids = document["docker"], document["ids"]
        _only(docker, "docker", ("root", "daemon"))
        self.docker_root = _path(docker["root"], "docker.root")
        self.docker_daemon = _path(docker["daemon"], "docker.daemon")
        _only(ids, "ids", ("first", "size", "count"))
        self.first, self.size, self.count = (_positive(ids[key], f"ids.{key}") for key in ("first", "size", "count"))
        _only(document["shares"], "shares", ("roots",))
        self.share_roots = _paths(document["shares"]["roots"], "shares.roots")
        mounts = document["mounts"]
        _only(mounts, "mounts", ("allow_read_only", "allow_read_write", "deny"))
        self.allow_read_only = _paths(mounts["allow_read_only"], "mounts.allow_read_only")
        self.allow_read_write = _paths(mounts["allow_read_write"], "mounts.allow_read_write")
        self.deny = _paths(mounts["deny"], "mounts.deny")


def parse(text: str) -> EngineSettings:
    """Return the settings in the JSON document `text`. Raises SettingsError."""
    try:
        document = jsonlite.loads(text)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return EngineSettings(document)


def load(path: str = PATH) -> EngineSettings:
    """Read the settings file. Raises SettingsError naming the file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(_LIMIT + 1)
        if len(data) > _LIMIT:
            raise SettingsError("larger than a settings file can be")
        return parse(data.decode("utf-8"))
    except (OSError, SettingsError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error


def _only(value: Any, name: str, keys: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise SettingsError(f"{name} must be an object")
    for key in keys:
        if key not in value:
            raise SettingsError(f"{name} lacks {key}")
    for key in value:
        if key not in keys:
            raise SettingsError(f"{name} has the unknown key {key}")


def _positive(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SettingsError(f"{name} must be a positive whole number")
    return value


def _path(value: Any, name: str) -> str:
    if not isinstance(value, str) or value != os.path.normpath(value) or not value.startswith("/") or value.startswith("//"):
        raise SettingsError(f"{name} must be an absolute path without . or .. in it")
    return value


def _paths(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise SettingsError(f"{name} must be a list of paths")
    return tuple(_path(each, name) for each in value)
