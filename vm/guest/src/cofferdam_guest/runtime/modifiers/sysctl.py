"""Kernel parameters of the container: namespaced ones only, and the one that Docker sets beyond the id range."""

from __future__ import annotations

from cofferdam_guest.runtime.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

PREFIXES = ("net.", "fs.mqueue.", "kernel.msg", "kernel.shm")
NAMES = ("kernel.sem", "kernel.domainname")
PING = "net.ipv4.ping_group_range"


def modify(spec: dict[str, Any], context: Context) -> None:
    """Refuse parameters of the whole VM and odd spellings; clamp the group range for ping sockets."""
    settings = spec["linux"].get("sysctl") or {}
    for name, value in settings.items():
        if not is_namespaced(name):
            raise Refusal("sysctl", f"sysctl {name!r} is not namespaced: it would change the whole VM")
        if "\n" in value or "\0" in value:
            raise Refusal("sysctl", f"sysctl {name}: the value has more than one line")
    if PING in settings:
        settings[PING] = " ".join(str(min(int(each), context.settings.size - 1)) for each in settings[PING].split())


def is_namespaced(name: str) -> bool:
    """Tell whether the parameter belongs to a namespace of the container; the kernel has the last word when it is written."""
    plain = name.isascii() and all(each.isalnum() or each in "._-" for each in name) and ".." not in name
    return plain and (name in NAMES or name.startswith(PREFIXES))
