"""Every container's control group lies below /docker, whatever --cgroup-parent says."""

from __future__ import annotations

import os

from cofferdam_guest.runtime.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

TOP = "/docker"


def modify(spec: dict[str, Any], context: Context) -> None:
    """Confine linux.cgroupsPath."""
    spec["linux"]["cgroupsPath"] = confined(spec["linux"].get("cgroupsPath") or "", context.container)


def confined(path: str, container: str) -> str:
    """Return the group's path below /docker. Raises Refusal for systemd's slice:prefix:name form, which has no directory."""
    if ":" in path:
        raise Refusal("cgroup", f"control group {path} is not a path")
    clean = os.path.normpath("/" + path.lstrip("/"))
    if clean.startswith(TOP + "/"):
        return clean
    return TOP + "/" + container if clean in ("/", TOP) else TOP + clean
