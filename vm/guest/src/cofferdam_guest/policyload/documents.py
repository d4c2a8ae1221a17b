"""What a policy makes of the image's engine.json and daemon.json. Pure: texts in, documents out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cofferdam_guest.config import engine
from cofferdam_guest.config.network import Network
from cofferdam_guest.config.policy import EGRESS, Policy

LABEL = "cofferdam.policy"
_EGRESS = f"http://{EGRESS[0]}:{EGRESS[1]}"
_NO_NETWORK = Network()
_MTU = "com.docker.network.driver.mtu"
_MOUNTS = {
    "allow_read_only": "mounts_allow_read_only",
    "allow_read_write": "mounts_allow_read_write",
    "deny": "mounts_deny",
}


def engine_document(base: str, policy: Policy, shares: Sequence[str] = ()) -> dict[str, Any]:
    """The engine's settings under a policy.

    Args:
        base: the image's engine.json.
        policy: whose mounts are added; one that denies everything gives settings that refuse with its reason.
        shares: where directories of the desktop are mounted.

    Raises:
        engine.SettingsError: the image's file, or what came out, is not one of the engine.
    """
    if policy.denied:
        return refusing(policy.denied)
    engine.parse(base)
    document: dict[str, Any] = json.loads(base)
    for key, field in _MOUNTS.items():
        document["mounts"][key] = list(dict.fromkeys([*document["mounts"][key], *getattr(policy, field)]))
    document["shares"]["roots"] = list(shares)
    engine.parse(json.dumps(document))
    return document


def refusing(reason: str) -> dict[str, Any]:
    """Settings under which the engine starts nothing and gives the reason."""
    return {"version": engine.VERSION, "refuse": reason}


def daemon_document(base: str, policy: Policy, network: Network = _NO_NETWORK) -> dict[str, Any]:
    """dockerd's configuration under a policy.

    Args:
        base: the image's daemon.json.
        policy: its daemon options, already without what isolation overrides, its proxies, and its name as a label.
        network: the host's; what the policy says of the same wins.

    Raises:
        ValueError: the image's file is not an object of JSON.
    """
    image = json.loads(base)
    if not isinstance(image, dict):
        raise ValueError("daemon.json is not an object")
    options = dict(policy.daemon_options)
    document: dict[str, Any] = {**image, **({"mtu": network.mtu} if network.mtu else {}), **options}
    if network.mtu and "mtu" not in options:
        document["default-network-opts"] = _with_mtu(_object(document, "default-network-opts"), network.mtu)
    if "builder" in options:
        document["builder"] = {**_object(options, "builder"), **_object(image, "builder")}
    if "features" in options:
        document["features"] = {**_object(image, "features"), **_object(options, "features")}
    document |= _logging(image, options)
    if "log-opts" in document and not document["log-opts"]:
        del document["log-opts"]
    if policy.filters_egress or network.proxies:
        document["proxies"] = dict.fromkeys(("http-proxy", "https-proxy"), _EGRESS)
    document["labels"] = [*image.get("labels", []), *_list(options, "labels"), f"{LABEL}={policy.label}"]
    return document


def _with_mtu(given: dict[str, Any], mtu: int) -> dict[str, Any]:
    """Options of new networks: `mtu` of daemon.json is that of the default bridge alone."""
    return {**given, "bridge": {_MTU: str(mtu), **_object(given, "bridge")}}


def _logging(image: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options of the log driver: the image's are those of its own driver, and no other one would start with them."""
    same = options.get("log-driver", image.get("log-driver")) == image.get("log-driver")
    given = _object(options, "log-opts")
    return {"log-opts": {**_object(image, "log-opts"), **given} if same else given}


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    return value if isinstance(value, list) else []
