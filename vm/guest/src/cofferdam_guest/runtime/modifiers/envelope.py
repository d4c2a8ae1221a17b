"""Keep of the specification only what dockerd writes: the rest could steer the low-level runtime.

Annotations choose handlers, hooks and seccomp data in crun; the remaining fields are ways around later modifiers.
"""

from __future__ import annotations

from cofferdam_guest.runtime.errors import Refusal, unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

TOP = frozenset(("ociVersion", "process", "root", "hostname", "domainname", "mounts", "hooks", "linux"))
LINUX = frozenset(("namespaces", "devices", "cgroupsPath", "resources", "seccomp", "maskedPaths", "readonlyPaths", "sysctl"))
PROCESS = frozenset(("terminal", "consoleSize", "user", "args", "env", "cwd", "capabilities", "rlimits")) | frozenset(
    ("noNewPrivileges", "apparmorProfile", "oomScoreAdj")
)
STEERING_VARIABLES = ("SYSBOX_",)
# crun sets limits as root of the VM: with these a container could starve everything else of the processor
REFUSED_LIMITS = frozenset(("RLIMIT_RTPRIO", "RLIMIT_NICE", "RLIMIT_RTTIME"))


def modify(spec: dict[str, Any], context: Context) -> None:
    """Drop unknown fields, all annotations, and variables that address an engine instead of the program.

    Raises Refusal for id mappings: ranges are given here, or an engine with `userns-remap` would undo their exclusiveness.
    """
    if spec["linux"].get("uidMappings") or spec["linux"].get("gidMappings"):
        reason = "the engine's own id mapping (userns-remap) can't be used: every container is mapped already"
        raise unsupported("id-mapping", reason)
    _keep(spec, TOP)
    _keep(spec["linux"], LINUX)
    clean_process(spec["process"])


def clean_process(process: dict[str, Any]) -> None:
    """As `modify`, for the description of one process. Raises Refusal for a limit that would let it starve others."""
    for limit in process.get("rlimits") or []:
        if limit["type"] in REFUSED_LIMITS:
            name = limit["type"].removeprefix("RLIMIT_").lower()
            raise Refusal("ulimit", f"ulimit {name} can't be set: it would raise the container above the VM's own programs")
    _keep(process, PROCESS)
    process["env"] = [each for each in process.get("env") or [] if not each.startswith(STEERING_VARIABLES)]


def _keep(part: dict[str, Any], keys: frozenset[str]) -> None:
    for key in [each for each in part if each not in keys]:
        del part[key]
