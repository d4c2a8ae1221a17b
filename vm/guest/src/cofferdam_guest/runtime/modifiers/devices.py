"""Which device nodes: the ones every container has, and fuse and tun on request; nothing of the VM's hardware."""

from __future__ import annotations

import os

from cofferdam_guest.runtime.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

# (type, major, minor): path of the nodes that every container has
DEFAULT = {
    ("c", 1, 3): "/dev/null",
    ("c", 1, 5): "/dev/zero",
    ("c", 1, 7): "/dev/full",
    ("c", 1, 8): "/dev/random",
    ("c", 1, 9): "/dev/urandom",
    ("c", 5, 0): "/dev/tty",
}
ON_REQUEST = {("c", 10, 200): "/dev/net/tun", ("c", 10, 229): "/dev/fuse"}
# nodes that the container's own devpts and console stand for
_TERMINALS = (("c", 5, 1), ("c", 5, 2))
_PTY_MAJOR = 136


def modify(spec: dict[str, Any], context: Context) -> None:
    """Choose the nodes (made in dev.py) and replace the device rules of the control group."""
    linux = spec["linux"]
    context.nodes = {path: key for key, path in DEFAULT.items()}
    for node in linux.get("devices") or []:
        _choose(node, context)
    linux["devices"] = []
    linux.setdefault("resources", {})["devices"] = rules()


def rules() -> list[dict[str, Any]]:
    """Return the control group's device rules: deny all, allow the known."""
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for kind, major, minor in (*DEFAULT, *_TERMINALS, *ON_REQUEST):
        rules.append({"allow": True, "type": kind, "major": major, "minor": minor, "access": "rwm"})
    return [*rules, {"allow": True, "type": "c", "major": _PTY_MAJOR, "access": "rwm"}]


def _choose(node: dict[str, Any], context: Context) -> None:
    key = (node["type"], node.get("major", 0), node.get("minor", 0))
    path = os.path.normpath(node["path"])
    if key in DEFAULT or key in ON_REQUEST:
        if not path.startswith("/dev/"):
            raise Refusal("device", f"device {node['path']}: device nodes can only be below /dev")
        context.nodes[path] = key
    elif not context.is_privileged():
        raise Refusal("device", f"device {node['path']} of the VM can't be used in a container; only fuse and tun can")
