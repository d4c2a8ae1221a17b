"""The container's first process: nothing that lowers the VM's own standing."""

from __future__ import annotations

from cofferdam_guest.runtime.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context


def modify(spec: dict[str, Any], context: Context) -> None:
    """Clamp the out-of-memory score and make sure that an AppArmor profile the user named is not silently absent."""
    process = spec["process"]
    # below 0 the kernel would rather kill dockerd than the container
    process["oomScoreAdj"] = max(0, process.get("oomScoreAdj") or 0)
    if process.get("apparmorProfile"):
        return
    for option in context.host_config().get("SecurityOpt") or []:
        name, _, profile = option.replace(":", "=", 1).partition("=")
        if name == "apparmor" and profile not in ("", "unconfined"):
            raise Refusal("apparmor", f"AppArmor profile {profile} can't be applied: this VM's kernel runs without AppArmor")
