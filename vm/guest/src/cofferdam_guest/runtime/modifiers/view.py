"""What /proc tells of the machine: the container's own limits and uptime, by lxcfs, instead of the VM's.

A view, not a boundary: without lxcfs the container starts all the same. Privileged containers keep the kernel's own procfs, since
they may mount a fresh one anyway, and a covered one would forbid that to the user namespaces inside them.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

ROOT = "/run/cofferdam/view"
FILES = ("/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime")
_OPTIONS = ["bind", "rprivate", "nosuid", "nodev", "noexec"]


def modify(spec: dict[str, Any], context: Context) -> None:
    """Add a bind for every file; it is crun that makes them, after it has mounted /proc."""
    if context.is_build or not spec["linux"].get("maskedPaths") or not os.path.isdir(ROOT + "/proc"):
        return
    spec["mounts"] += [{"type": "bind", "source": ROOT + path, "destination": path, "options": _OPTIONS} for path in FILES]
