"""The part of the system call floor that the low-level runtime itself could not live with: bpf(2).

The rest is the filter which the wrapper puts on itself. A profile of the user's keeps all its denials.
"""

from __future__ import annotations

from cofferdam_guest.runtime.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

FLOOR = ("bpf",)
DENYING = frozenset(("SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"))
_DENIAL = {"names": list(FLOOR), "action": "SCMP_ACT_ERRNO", "errnoRet": 1}


def modify(spec: dict[str, Any], context: Context) -> None:
    """Make sure that the profile, if need be one that allows all else, denies the floor's calls."""
    profile = spec["linux"].get("seccomp") or {"defaultAction": "SCMP_ACT_ALLOW"}
    if profile.get("listenerPath"):
        raise Refusal("seccomp", "a seccomp listener would connect to a socket of the VM")
    # an allow-list denies the calls as soon as no rule of it names them
    rules = [] if profile["defaultAction"] in DENYING else [dict(_DENIAL)]
    for rule in profile.get("syscalls") or []:
        # whatever a rule says of the floor's calls, ours above is stricter
        names = [each for each in rule["names"] if each not in FLOOR]
        if names:
            rules.append(rule | {"names": names})
    spec["linux"]["seccomp"] = profile | {"syscalls": rules}
