"""All that a container would have mounted, from whatever part of a request, as one list of one kind of record.

How dockerd reads each part: `volume/mounts/linux_parser.go` and `daemon/volumes.go` of the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cofferdam_guest.apiproxy.judge.refusals import malformed
from cofferdam_guest.apiproxy.judge.request import Body, Facts

BIND, VOLUME, TMPFS = "bind", "volume", "tmpfs"


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One mount.

    Attributes:
        type: `bind`, `volume`, `tmpfs`, or another word that the client used.
        source: path of a bind, name of a volume; empty for an anonymous one.
        target: path in the container.
        read_only: whether it cannot be written.
        driver: of a volume to be created; empty for the default.
        options: of the volume's driver.
        flags: of a tmpfs.
    """

    type: str
    source: str = ""
    target: str = ""
    read_only: bool = False
    driver: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


async def requested(config: Body, host: Body, facts: Facts) -> list[Mount]:
    """Return what a container with this configuration would mount.

    Args:
        config: the container's own configuration.
        host: its HostConfig.
        facts: for the containers whose volumes it takes.

    Raises:
        Denied: 400 for an entry that dockerd would not take either.
    """
    mounts = [*_binds(host), *_mounts(host), *_tmpfs(host), *_volumes(config)]
    for text in host.get("VolumesFrom") or []:
        mounts += await _volumes_from(text, facts)
    return mounts


def existing(container: Body) -> list[Mount]:
    """Return what an inspected container mounts, in whatever way it came to it."""
    host = container.get("HostConfig") or {}
    return [*_points(container), *_binds(host), *_mounts(host), *_tmpfs(host)]


def _binds(host: Body) -> Iterator[Mount]:
    for text in host.get("Binds") or []:
        parts = text.split(":")
        if len(parts) > 3 or not parts[0]:
            raise malformed("mount", f"invalid volume specification: '{text}'")
        if len(parts) == 1:
            yield Mount(type=VOLUME, target=parts[0])
            continue
        modes = parts[2].split(",") if len(parts) == 3 else []
        kind = BIND if parts[0].startswith("/") else VOLUME
        yield Mount(type=kind, source=parts[0], target=parts[1], read_only="ro" in modes)


def _mounts(host: Body) -> Iterator[Mount]:
    for each in host.get("Mounts") or []:
        driver = (each.get("VolumeOptions") or {}).get("DriverConfig") or {}
        yield Mount(
            type=each.get("Type") or "",
            source=each.get("Source") or "",
            target=each.get("Target") or "",
            read_only=bool(each.get("ReadOnly")),
            driver=driver.get("Name") or "",
            options=driver.get("Options") or {},
            flags=tuple("=".join(each) for each in (each.get("TmpfsOptions") or {}).get("Options") or []),
        )


def _tmpfs(host: Body) -> Iterator[Mount]:
    for target, text in (host.get("Tmpfs") or {}).items():
        yield Mount(type=TMPFS, target=target, flags=tuple(text.split(",")) if text else ())


def _volumes(config: Body) -> Iterator[Mount]:
    for target in config.get("Volumes") or {}:
        yield Mount(type=VOLUME, target=target)


async def _volumes_from(text: str, facts: Facts) -> list[Mount]:
    """The mounts of another container; of one that is not there dockerd makes an error."""
    name, _, mode = text.partition(":")
    container = await facts.container(name) if name else None
    if container is None:
        return []
    read_only = "ro" in mode.split(",")
    return [*_points(container, read_only=read_only)]


def _points(container: Body, *, read_only: bool = False) -> Iterator[Mount]:
    for each in container.get("Mounts") or []:
        kind: Any = each.get("Type") or ""
        yield Mount(
            type=kind,
            source=(each.get("Name") if kind == VOLUME else each.get("Source")) or "",
            target=each.get("Destination") or "",
            read_only=read_only or not each.get("RW"),
            driver=(each.get("Driver") or "") if kind == VOLUME else "",
        )
