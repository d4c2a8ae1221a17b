"""`admin-settings.json`: Docker Desktop's file for administrators, read into findings and settings.

A file with an error gives no settings at all: what an administrator wrote is followed as a whole or refused as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cofferdam_guest.config import commandnames, daemonoptions, positions, references
from cofferdam_guest.config.findings import ERROR, WARNING, Finding
from cofferdam_guest.config.positions import Node
from cofferdam_guest.config.shape import Shape

ISOLATION = "enhancedContainerIsolation"
SOCKET = f"{ISOLATION}.dockerSocketMount"
OPTIONS = "linuxVM.dockerDaemonOptions"
CONTAINERS_PROXY, PROXY = "containersProxy", "proxy"
LOAD, FOLDERS = "blockDockerLoad", "filesharingAllowedDirectories"
MOUNTS, REGISTRIES = "cofferdam.restrictedMounts", "cofferdam.registries"
VERSIONS = (1, 2)

_TRUSTED = (
    *("/proc", "/sys", "/dev", "/run", "/var/run", "/var/lock", "/etc/cofferdam"),
    *("/var/lib/docker", "/var/lib/containerd", "/var/lib/cofferdam"),
)
_PROXY_SCHEMES = ("http://", "https://", "socks5://")


class AdminError(ValueError):
    """The file cannot be used; the message is its first error."""


@dataclass(frozen=True)
class Setting:
    """A setting, and whether a later file may change it.

    Attributes:
        value: the fields of the effective policy that it sets.
        locked: true: a later file may not.
    """

    value: dict[str, Any]
    locked: bool


@dataclass(frozen=True)
class AdminSettings:
    """A good file.

    Attributes:
        settings: by name (SOCKET, OPTIONS, ...); what the file does not mention is not in it.
    """

    settings: dict[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class AdminFile:
    """What a file holds.

    Attributes:
        settings: none when the file has an error.
        findings: errors, warnings and notes in the file's order.
    """

    settings: AdminSettings | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings for which the file cannot be used."""
        return tuple(finding for finding in self.findings if finding.level == ERROR)


def read(data: bytes) -> AdminFile:
    """Read a file's bytes; never raises for what is in them."""
    try:
        shape = Shape(positions.parse(data))
    except positions.JsonError as error:
        return AdminFile(None, (Finding(ERROR, "", error.problem, error.line, error.column),))
    settings: dict[str, Setting] = {}
    for name, reader in _READERS.items():
        _read_one(shape, name, reader, settings)
    _isolation_stays_on(shape)
    _version(shape)
    findings = tuple(sorted(shape.findings, key=lambda found: (found.line, found.column)))
    bad = any(finding.level == ERROR for finding in findings)
    return AdminFile(None if bad else AdminSettings(settings), findings)


def load(data: bytes, name: str) -> AdminSettings:
    """The settings in a file's bytes. Raises AdminError with `NAME:LINE:COLUMN: …` of the first error."""
    found = read(data)
    if found.settings is None:
        raise AdminError(found.errors[0].text(name))
    return found.settings


def _read_one(shape: Shape, name: str, reader: Callable[[Shape, str], dict[str, Any]], settings: dict[str, Setting]) -> None:
    lock = f"{ISOLATION}.locked" if name == SOCKET else f"{name}.locked"
    locked = shape.values[lock].value if lock in shape.values else name == FOLDERS
    mentioned = any((path == name or path.startswith(f"{name}.")) and path != lock for path in shape.values)
    if not mentioned and not (locked and lock in shape.values):
        return
    if not mentioned and name != SOCKET:
        shape.add(WARNING, lock, "locked without a value: what is locked is the default", shape.values[lock])
    settings[name] = Setting(reader(shape, name), locked)


def _isolation_stays_on(shape: Shape) -> None:
    path = f"{ISOLATION}.value"
    if path in shape.values and not shape.values[path].value:
        message = "isolation is part of the image and stays on; a profile without it is another image"
        shape.add(WARNING, path, message, shape.values[path])


def _version(shape: Shape) -> None:
    path = "configurationFileVersion"
    if path in shape.values and shape.values[path].value not in VERSIONS:
        shape.add(ERROR, path, f"version {shape.values[path].value} is not known here; 1 and 2 are", shape.values[path])


def _get(shape: Shape, path: str, default: Any) -> Any:
    return shape.values[path].plain() if path in shape.values else default


def _nodes(shape: Shape, path: str) -> list[Node]:
    return list(shape.values[path].value) if path in shape.values else []


def _socket(shape: Shape, name: str) -> dict[str, Any]:
    path = f"{name}.imageList.images"
    images = tuple(dict.fromkeys(_image(shape, path, node) for node in _nodes(shape, path)))
    if references.ANY_TAG in images:
        node = shape.values[path]
        shape.add(WARNING, path, '"*" lets every container mount the Docker socket; other entries add nothing to it', node)
    path = f"{name}.commandList.commands"
    commands = tuple(dict.fromkeys(_command(shape, path, node) for node in _nodes(shape, path)))
    return {
        "socket_images": images,
        "allow_derived": _get(shape, f"{name}.imageList.allowDerivedImages", False),
        "command_mode": _get(shape, f"{name}.commandList.type", "deny"),
        "commands": commands,
    }


def _image(shape: Shape, path: str, node: Node) -> str:
    text = str(node.value)
    if text == references.ANY_TAG:
        return text
    try:
        found = references.parse(text)
    except references.BadReference as error:
        shape.add(ERROR, path, str(error), node)
        return text
    if found.digest and ":" in text.partition("@")[0].rpartition("/")[2]:
        shape.add(WARNING, path, f'"{text}": the digest decides; the tag beside it is ignored', node)
    return str(found)


def _command(shape: Shape, path: str, node: Node) -> str:
    name = str(node.value)
    if error := commandnames.error_of(name):
        shape.add(ERROR, path, error, node)
    elif warning := commandnames.warning_of(name):
        shape.add(WARNING, path, warning, node)
    return name


def _options(shape: Shape, name: str) -> dict[str, Any]:
    path = f"{name}.value"
    node = shape.values.get(path)
    if node is None or not str(node.value).strip():
        return {"daemon_options": {}}
    try:
        kept, report = daemonoptions.select(positions.parse(str(node.value)))
    except positions.JsonError as error:
        shape.add(ERROR, path, f"in the text, line {error.line}, column {error.column}: {error.problem}", node)
        return {"daemon_options": {}}
    for level, message in report:
        shape.add(level, path, message, node)
    return {"daemon_options": kept}


def _proxy(shape: Shape, name: str) -> dict[str, Any]:
    if _get(shape, f"{name}.mode", "system") != "manual":
        return {"proxies": {}, "blocked": ""}
    script = next((key for key in ("pac", "embeddedPac") if _get(shape, f"{name}.{key}", "")), "")
    values = {key: _address(shape, f"{name}.{key}") for key in ("http", "https")}
    proxies = {key: value for key, value in values.items() if value}
    blocked = ""
    if script:
        blocked = "PAC scripts are not evaluated, so nothing may be pulled; name `http` and `https` instead"
        shape.add(WARNING, f"{name}.{script}", blocked, shape.values[f"{name}.{script}"])
    elif not proxies:
        blocked = "manual without an address means that nothing may be pulled"
        shape.add(WARNING, f"{name}.mode", blocked, shape.values[f"{name}.mode"])
    elif len(proxies) == 1:
        (only,) = proxies
        message = f"only `{only}` is given: connections of the other kind go without a proxy"
        shape.add(WARNING, f"{name}.{only}", message, shape.values[f"{name}.{only}"])
    exclude = ",".join(_get(shape, f"{name}.exclude", []))
    closed = f"{name}: {blocked}" if blocked else ""
    return {"proxies": {**proxies, **({"no": exclude} if exclude and proxies else {})}, "blocked": closed}


def _address(shape: Shape, path: str) -> str:
    value = str(_get(shape, path, ""))
    if value and (not value.startswith(_PROXY_SCHEMES) or any(character.isspace() for character in value)):
        shape.add(ERROR, path, f'"{value}" is not an address of a proxy: write http://HOST:PORT', shape.values[path])
    return value


def _load(shape: Shape, name: str) -> dict[str, Any]:
    return {"block_load": _get(shape, f"{name}.value", False)}


def _folders(shape: Shape, name: str) -> dict[str, Any]:
    folders = [(folder["path"], bool(folder.get("sharedByDefault"))) for folder in _get(shape, name, [])]
    return {
        "shares": tuple(dict.fromkeys(path for path, _ in folders)),
        "shares_default": tuple(dict.fromkeys(path for path, shared in folders if shared)),
    }


def _mounts(shape: Shape, name: str) -> dict[str, Any]:
    fields = {"allowReadOnly": "mounts_allow_read_only", "allowReadWrite": "mounts_allow_read_write", "deny": "mounts_deny"}
    return {
        field_name: tuple(_path(shape, f"{name}.{key}", node, allow=key != "deny") for node in _nodes(shape, f"{name}.{key}"))
        for key, field_name in fields.items()
    }


def _path(shape: Shape, path: str, node: Node, *, allow: bool) -> str:
    text = str(node.value)
    if not text.startswith("/") or text.startswith("//") or text != os.path.normpath(text) or "\0" in text:
        shape.add(ERROR, path, f'"{text}" must be an absolute path without `.`, `..` and a slash at its end', node)
    elif allow and (inside := _holds_trust(text)):
        message = f'"{text}" cannot be allowed: isolation rests on what is in {inside}'
        shape.add(ERROR, path, message, node)
    return text


def _holds_trust(path: str) -> str:
    """The directory that isolation rests on, when `path` is it, or in it, or around it."""
    below = path.rstrip("/") + "/"
    return next((each for each in _TRUSTED if f"{each}/".startswith(below) or below.startswith(f"{each}/")), "")


def _registries(shape: Shape, name: str) -> dict[str, Any]:
    path = f"{name}.allowed"
    if path not in shape.values:
        return {"registries": None}
    return {"registries": tuple(dict.fromkeys(_host(shape, path, node) for node in _nodes(shape, path)))}


def _host(shape: Shape, path: str, node: Node) -> str:
    text = str(node.value)
    start = "*." if text.startswith("*.") else ""
    try:
        if text == "*":
            raise references.BadReference('"*" is not a host; to allow all of them leave `allowed` out')
        return start + references.host_of(text.removeprefix("*."))
    except references.BadReference as error:
        shape.add(ERROR, path, str(error), node)
        return text


_READERS: dict[str, Callable[[Shape, str], dict[str, Any]]] = {
    SOCKET: _socket,
    OPTIONS: _options,
    CONTAINERS_PROXY: _proxy,
    PROXY: _proxy,
    LOAD: _load,
    FOLDERS: _folders,
    MOUNTS: _mounts,
    REGISTRIES: _registries,
}
