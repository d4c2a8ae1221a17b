"""Refuse the VM's own namespaces; open those of other containers that are to be shared."""

from __future__ import annotations

import os

from cofferdam_guest.linux import namespaces
from cofferdam_guest.runtime.errors import NAME, Refusal, unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

REQUIRED = ("pid", "ipc", "uts", "mount")
# type in the specification: name below /proc/<pid>/ns
JOINABLE = {"network": "net", "pid": "pid", "ipc": "ipc"}
_BECAUSE = "with the host (because they use the linux user-namespace for isolation)"


def modify(spec: dict[str, Any], context: Context) -> None:
    """Judge the namespaces that the specification asks for and fill context.joins."""
    wanted = {each["type"]: each.get("path") for each in spec["linux"]["namespaces"]}
    missing = [each for each in REQUIRED if each not in wanted]
    if missing:
        raise _shared_with_host(missing)
    if "network" not in wanted:
        raise _network_of_host()
    for kind, path in wanted.items():
        # the wrapper makes user, cgroup and time namespaces itself, whatever was asked for
        if path and kind not in ("user", "cgroup", "time"):
            context.joins[kind] = _open_foreign(kind, path)


def _open_foreign(kind: str, path: str) -> int:
    if kind not in JOINABLE:
        raise unsupported("namespace", f"{NAME} containers can't join the {kind} namespace of another container")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unsupported("namespace", f"the {kind} namespace to join is gone: {error}") from error
    name = JOINABLE[kind]
    if namespaces.identity(fd) in (namespaces.of("self", name), namespaces.of("1", name)):
        raise _network_of_host() if kind == "network" else _shared_with_host([kind])
    return fd


def _shared_with_host(kinds: list[str]) -> Refusal:
    return unsupported("host-namespace", f"{NAME} containers can't share namespaces [{' '.join(kinds)}] {_BECAUSE}")


def _network_of_host() -> Refusal:
    return unsupported("host-namespace", f"{NAME} containers can't share a network namespace {_BECAUSE}")
