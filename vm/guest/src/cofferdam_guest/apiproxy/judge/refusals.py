"""Refusals in the words of the runtime wrapper, so that a user reads the same text whichever of the two refuses."""

from __future__ import annotations

from cofferdam_guest.apiproxy.errors import Denied

NAME = "cofferdam"
PREFIX = "failed to create shim task: OCI runtime create failed: "


def policy(rule: str, message: str) -> Denied:
    """The refusal of something that can be understood and is not allowed."""
    return Denied(403, rule, message)


def malformed(rule: str, message: str) -> Denied:
    """The refusal of something that two readers could understand differently."""
    return Denied(400, rule, message)


def spec(rule: str, reason: str) -> Denied:
    """The refusal of a container's specification, in the words that Docker Desktop's documentation shows and scripts look for."""
    return policy(rule, f"{PREFIX}error in the container spec: {reason}: unknown")


def unsupported(rule: str, reason: str) -> Denied:
    """The refusal of what isolation cannot give."""
    return spec(rule, f"invalid or unsupported container spec: {reason}")


def restricted(source: str) -> Denied:
    """The refusal of a file or directory of the VM as a mount's source."""
    return spec("restricted-mount", f"can't mount {source} because it's configured as a restricted host mount")


def not_shared(path: str) -> Denied:
    """The refusal of a directory of the desktop that the VM does not see, in Docker Desktop's words with our next step."""
    known = f"mounts denied: The path {path} is not shared from the host and is not known to Docker"
    return policy("share", f"{known}. Share it: stop the machine, then `inv boot --share {path}`")
