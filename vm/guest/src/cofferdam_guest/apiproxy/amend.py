"""What the proxy adds to dockerd's answers: the policy and id ranges, where people and programs look for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cofferdam_guest.apiproxy.ranges import with_range
from cofferdam_guest.config.policy import Policy

LIMIT = 16 << 20
Amendment = Callable[[dict[str, Any], Policy], dict[str, Any]]


def amended(route_id: str, body: bytes, policy: Policy) -> bytes:
    """The body with its amendment; the body as it is when it is not a JSON object."""
    try:
        document = json.loads(body)
    except ValueError:
        return body
    if not isinstance(document, dict):
        return body
    return json.dumps(AMENDMENTS[route_id](document, policy), separators=(",", ":")).encode("utf-8")


def _info(document: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """`docker info` shows SecurityOptions and Warnings."""
    options = [*(document.get("SecurityOptions") or []), f"name=cofferdam,isolation=kernel,policy=sha256:{policy.sha256}"]
    warnings = list(document.get("Warnings") or [])
    if policy.denied:
        warnings.append(f"WARNING: everything is refused, because there is no usable policy: {policy.denied}")
    return {**document, "SecurityOptions": options, "Warnings": warnings}


AMENDMENTS: dict[str, Amendment] = {"SystemInfo": _info, "ContainerInspect": lambda document, _: with_range(document)}
