"""HostConfig, field by field: what is refused, and what is set to what will hold anyway.

A field without a rule is left to dockerd and the wrapper. The wrapper holds all of this too, except what concerns dockerd alone:
log drivers, volume drivers, ports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cofferdam_guest.apiproxy.judge import desktop, logs, ports, sysctls
from cofferdam_guest.apiproxy.judge.devices import check_devices, check_requests
from cofferdam_guest.apiproxy.judge.refusals import NAME, policy, spec, unsupported
from cofferdam_guest.apiproxy.judge.request import Body
from cofferdam_guest.apiproxy.judge.volumes import check as check_volume
from cofferdam_guest.config.policy import Policy

HOST = "host"
CGROUP_TOP = "/docker"
# what inspect shows; every name of a runtime is the isolating one
RUNTIME = "sysbox-runc"
# limits that would let a container starve the VM's own programs; see the wrapper's envelope.py
REFUSED_LIMITS = ("rtprio", "nice", "rttime")
# they choose handlers in low-level runtimes
DROPPED_ANNOTATIONS = ("run.oci.", "cdi.k8s.io/", "io.kubernetes.", "module.wasm.")
_BECAUSE = "with the host (because they use the linux user-namespace for isolation)"


def rewritten(host: Body) -> Body:
    """Return the HostConfig with what is ignored without an error: runtime, user and cgroup namespace, score, annotations,
    addresses of ports; and with the desktop's names.
    """
    result = host | {"Runtime": RUNTIME}
    if names := desktop.with_names(host):
        result["ExtraHosts"] = names
    if host.get("PortBindings"):
        result["PortBindings"] = desktop.on_the_card(host["PortBindings"])
    if result.get("UsernsMode") == HOST:
        result["UsernsMode"] = ""
    if result.get("CgroupnsMode") == HOST:
        result["CgroupnsMode"] = "private"
    if (result.get("OomScoreAdj") or 0) < 0:
        result["OomScoreAdj"] = 0
    if result.get("Annotations"):
        kept = {key: value for key, value in result["Annotations"].items() if not key.startswith(DROPPED_ANNOTATIONS)}
        result["Annotations"] = kept
    return result


def check(host: Body, rules: Policy) -> None:
    """Judge every field that has a rule; mounts are judged in sources.py. Raises Denied."""
    for name, rule in RULES.items():
        value = host.get(name)
        if value:
            rule(value, rules)


def _namespace(kind: str) -> Callable[[Any, Policy], None]:
    def rule(value: str, _: Policy) -> None:
        if value == HOST:
            raise unsupported("host-namespace", f"{NAME} containers can't share namespaces [{kind}] {_BECAUSE}")

    return rule


def check_network(value: str, _: Policy) -> None:
    """The VM's network, by its mode's name. Raises Denied."""
    if value == HOST:
        raise unsupported("host-namespace", f"{NAME} containers can't share a network namespace {_BECAUSE}")


def check_cgroup_parent(value: str, _: Policy) -> None:
    """Control groups lie below the engine's own; a builder container of buildx asks for one there. Raises Denied."""
    parts = value.split("/")
    if not value.startswith(CGROUP_TOP + "/") or ".." in parts or ":" in value:
        raise spec("cgroup", f"control group {value} can't be chosen: every container's lies below {CGROUP_TOP}")


def check_limits(value: list[Body], _: Policy) -> None:
    """Limits that raise priority. Raises Denied."""
    for limit in value:
        name = str(limit.get("Name") or "").lower()
        if name in REFUSED_LIMITS:
            raise spec("ulimit", f"ulimit {name} can't be set: it would raise the container above the VM's own programs")


def _volume_driver(value: str, _: Policy) -> None:
    check_volume(value, {})


def _security(value: list[str], _: Policy) -> None:
    for option in value:
        # both spellings are Docker's
        name, profile = (*option.replace(":", "=", 1).split("=", 1), "")[:2]
        if name == "apparmor" and profile not in ("", "unconfined"):
            raise spec("apparmor", f"AppArmor profile {profile} can't be applied: this VM's kernel runs without AppArmor")


def _cgroup(value: str, _: Policy) -> None:
    """`container:NAME`, a field of very old clients: no rule of the wrapper's knows it."""
    raise policy("cgroup", f"Cgroup {value} can't be chosen: every container has a control group of its own")


RULES: dict[str, Callable[[Any, Policy], None]] = {
    "PidMode": _namespace("pid"),
    "IpcMode": _namespace("ipc"),
    "UTSMode": _namespace("uts"),
    "NetworkMode": check_network,
    "Cgroup": _cgroup,
    "CgroupParent": check_cgroup_parent,
    "Devices": check_devices,
    "DeviceRequests": check_requests,
    "Ulimits": check_limits,
    "Sysctls": sysctls.check,
    "SecurityOpt": _security,
    "LogConfig": logs.check,
    "VolumeDriver": _volume_driver,
    "PortBindings": ports.check,
}
