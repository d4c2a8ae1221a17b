"""Only dockerd's own hook runs, the one that tells it the network namespace: hooks are executed as root of the VM."""

from __future__ import annotations

import os

from cofferdam_guest.runtime.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context


def modify(spec: dict[str, Any], context: Context) -> None:
    """Refuse hooks of anybody else, a device plugin's for example."""
    for stage, hooks in (spec.get("hooks") or {}).items():
        for hook in hooks or []:
            if stage != "prestart" or not _is_network_hook(hook, context.settings.docker_daemon):
                raise Refusal("hook", f"the {stage} hook {hook.get('path')} would run outside the container")
            # the link through a process id could lead elsewhere by the time the hook runs
            hook["path"] = context.settings.docker_daemon


def _is_network_hook(hook: dict[str, Any], daemon: str) -> bool:
    parts = hook["path"].split("/")
    if len(parts) != 4 or parts[:2] != ["", "proc"] or not parts[2].isdecimal() or parts[3] != "exe":
        return False
    if hook["args"][:1] != ["libnetwork-setkey"] or hook.get("env"):
        return False
    try:
        return bool(os.readlink(hook["path"]) == daemon)
    except OSError:
        return False
