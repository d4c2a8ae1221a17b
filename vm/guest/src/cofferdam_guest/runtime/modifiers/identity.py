"""Who the container is: its user namespace and exclusive id range, its cgroup and time namespace."""

from __future__ import annotations

import os

from cofferdam_guest.idrange.pool import Pool, PoolExhausted
from cofferdam_guest.idrange.store import AlreadyHeld
from cofferdam_guest.linux import mounts, namespaces
from cofferdam_guest.runtime.errors import NAME, Refusal, unsupported
from cofferdam_guest.runtime.paths import STAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context


def modify(spec: dict[str, Any], context: Context) -> None:
    """Make or join the user namespace, and write all namespaces and id mappings into the specification."""
    nursery = context.nursery = namespaces.Nursery()
    try:
        if context.joins:
            _join(context)
        else:
            _claim(context)
            nursery.map_ids(context.base, context.settings.size)
    except AlreadyHeld as error:
        raise Refusal("id-range", str(error)) from error
    linux = spec["linux"]
    linux["namespaces"] = [
        *({"type": each} for each in ("mount", "cgroup", "uts")),
        *(_entry(each, context.joins.get(each)) for each in ("pid", "ipc", "network")),
        _entry("user", context.userns),
        _entry("time", nursery.time),
    ]
    nursery.close()
    mapping = {"containerID": 0, "hostID": context.base, "size": context.settings.size}
    linux["uidMappings"] = [mapping]
    linux["gidMappings"] = [mapping]


def _claim(context: Context) -> None:
    assert context.nursery is not None
    context.userns = context.nursery.user
    settings = context.settings
    pool = Pool(settings.first, settings.size, settings.count)
    try:
        context.base = context.store.claim(pool, _number(context.userns), context.root, context.container)
    except PoolExhausted as error:
        raise Refusal("id-range", f"no user id range is left for another container: {error}") from error
    context.claimed = True


def _join(context: Context) -> None:
    """All joined namespaces must belong to one user namespace, and that to a container of ours."""
    owners = {kind: namespaces.owner(fd) for kind, fd in context.joins.items()}
    kinds = " ".join(owners)
    if len({_number(each) for each in owners.values()}) != 1:
        raise unsupported("namespace", f"{NAME} containers can't join namespaces [{kinds}] of several containers")
    context.userns = next(iter(owners.values()))
    # a namespace nested in a container can have the number that a container's had
    child = namespaces.is_child_of_ours(context.userns)
    joined = context.store.join(_number(context.userns), context.root, context.container) if child else None
    if joined is None:
        raise unsupported("namespace", f"{NAME} containers can't join namespaces [{kinds}] that belong to no container")
    context.base, context.family = joined
    context.claimed = True


def _number(fd: int) -> int:
    return namespaces.identity(fd)[1]


def _entry(kind: str, fd: int | None) -> dict[str, str]:
    """A namespace to create, or the path of a file that pins the very one that was judged."""
    if fd is None:
        return {"type": kind}
    path = f"{STAGE}/{kind}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    mounts.bind_file(f"/proc/self/fd/{fd}", path)
    return {"type": kind, "path": path}
