"""`linuxVM.dockerDaemonOptions`: which keys of daemon.json an administrator may set, and which isolation overrides.

The table holds every key that dockerd 26.1 knows. dockerd does not start with a key it does not know, so such a key is left out
and reported.
"""

from __future__ import annotations

import difflib
from typing import Any

from cofferdam_guest.config.positions import Node

BOOLEAN, INTEGER, TEXT, TEXTS = "boolean", "whole number", "text", "list of texts"
OBJECT, TEXT_MAP, FLAG_MAP, OBJECTS = "object", "object of texts", "object of booleans", "list of objects"

_DOOR = "the Docker API has one door, the proxy"
_RUNTIME = "every container runs under the isolating runtime"
_PLACE = "the image fixes where the engine keeps and finds its parts"
_NETWORK = "the image's firewall depends on it"
_HOST = "it would hand containers what belongs to the VM"

ALLOWED: dict[str, str] = {
    **dict.fromkeys(("init", "icc", "ip-forward", "ip-masq", "ipv6", "no-new-privileges", "raw-logs"), BOOLEAN),
    **dict.fromkeys(("max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts"), INTEGER),
    **dict.fromkeys(("mtu", "network-control-plane-mtu", "shutdown-timeout"), INTEGER),
    **dict.fromkeys(("bip", "default-gateway", "default-gateway-v6", "default-ipc-mode", "default-shm-size"), TEXT),
    **dict.fromkeys(("fixed-cidr", "fixed-cidr-v6", "host-gateway-ip", "ip", "log-driver", "log-format", "log-level"), TEXT),
    **dict.fromkeys(("swarm-default-advertise-addr",), TEXT),
    **dict.fromkeys(("allow-nondistributable-artifacts", "dns", "dns-opts", "dns-search", "insecure-registries"), TEXTS),
    **dict.fromkeys(("labels", "node-generic-resources", "registry-mirrors"), TEXTS),
    **dict.fromkeys(("builder", "default-network-opts", "default-ulimits"), OBJECT),
    "log-opts": TEXT_MAP,
    "features": FLAG_MAP,
    "default-address-pools": OBJECTS,
}
"""Keys that are handed to dockerd, with their type."""

OVERRIDDEN: dict[str, str] = {
    **dict.fromkeys(("hosts", "group", "tls", "tlsverify", "tlscacert", "tlscert", "tlskey", "api-cors-header"), _DOOR),
    **dict.fromkeys(("metrics-addr", "network-diagnostic-port"), "it would open a port beside the Docker API"),
    "debug": "it would open the engine's profiling pages; `log-level` `debug` gives the messages",
    "experimental": "only what is tested with isolation is on",
    **dict.fromkeys(("runtimes", "default-runtime", "exec-opts", "default-init", "init-path"), _RUNTIME),
    **dict.fromkeys(("userns-remap", "rootless"), "every container has id ranges of its own"),
    **dict.fromkeys(("seccomp-profile", "selinux-enabled", "default-cgroupns-mode", "cgroup-parent"), _RUNTIME),
    **dict.fromkeys(("cpu-rt-period", "cpu-rt-runtime"), "the kernel's cgroups have no real-time budgets"),
    **dict.fromkeys(("data-root", "exec-root", "pidfile", "resolv-conf", "storage-driver", "storage-opts"), _PLACE),
    **dict.fromkeys(("containerd", "containerd-namespace", "containerd-plugins-namespace", "cri-containerd"), _PLACE),
    **dict.fromkeys(("iptables", "ip6tables", "bridge"), _NETWORK),
    **dict.fromkeys(("userland-proxy", "userland-proxy-path"), "the image has no such program"),
    "authorization-plugins": "plugins run outside of containers; this policy is what authorises",
    "live-restore": "a restart of the engine must not leave containers that nobody judges",
    "cdi-spec-dirs": _HOST,
    **dict.fromkeys(("proxies", "http-proxy", "https-proxy", "no-proxy"), "`containersProxy` sets the engine's proxies"),
}
"""Keys that isolation sets or refuses, with the reason."""

NESTED = {
    "builder.entitlements": "builds get no host network, no devices and no privileges",
    "features.containerd-snapshotter": _PLACE,
    "features.cdi": _HOST,
}
"""Keys inside of allowed ones that isolation overrides, with the reason."""

_FEATURES = ("buildkit",)
_TYPES: dict[str, type] = {
    **{BOOLEAN: bool, INTEGER: int, TEXT: str, TEXTS: list, OBJECTS: list},
    **dict.fromkeys((OBJECT, TEXT_MAP, FLAG_MAP), dict),
}
_INNER: dict[str, type] = {TEXTS: str, OBJECTS: dict, TEXT_MAP: str, FLAG_MAP: bool}
_OWN_LABEL = "cofferdam."

Report = list[tuple[str, str]]
"""What was found: (level, message), the level `error` or `warning`."""


def select(options: Node) -> tuple[dict[str, Any], Report]:
    """What of a daemon.json is handed to dockerd.

    Args:
        options: the parsed document.

    Returns:
        The keys that are left, and a warning for each that is not, or an error for a value of the wrong type.
    """
    if not isinstance(options.value, dict):
        return {}, [("error", "daemon.json is not an object")]
    kept: dict[str, Any] = {}
    report: Report = []
    for name, node in options.value.items():
        if name in OVERRIDDEN:
            report.append(("warning", f'"{name}" is overridden by isolation: {OVERRIDDEN[name]}'))
        elif name not in ALLOWED:
            report.append(("warning", _unknown(name)))
        elif not _fits(ALLOWED[name], node):
            report.append(("error", f'"{name}" must be a {ALLOWED[name]}'))
        else:
            kept[name] = _nested(name, node.plain(), report)
    return kept, report


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), [*ALLOWED, *OVERRIDDEN], 1, cutoff=0.6)
    tail = f'; did you mean "{near[0]}"?' if near else ""
    return f'"{name}" is no option of this engine, which would not start with it; it is left out{tail}'


def _fits(kind: str, node: Node) -> bool:
    value = node.value
    if not isinstance(value, _TYPES[kind]) or (kind == INTEGER and isinstance(value, bool)):
        return False
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return kind not in _INNER or all(isinstance(item.value, _INNER[kind]) for item in items)


def _nested(name: str, value: Any, report: Report) -> Any:
    """The value less what isolation overrides inside of it; dockerd compares these names without regard to case."""
    if name == "labels":
        for label in [label for label in value if label.lower().startswith(_OWN_LABEL)]:
            report.append(("warning", f'the label "{label}" is overridden by isolation: names with {_OWN_LABEL} are its own'))
        return [label for label in value if not label.lower().startswith(_OWN_LABEL)]
    if name not in ("builder", "features"):
        return value
    kept = {}
    for key, inner in value.items():
        path = f"{name}.{key.lower()}"
        if path in NESTED:
            report.append(("warning", f'"{name}.{key}" is overridden by isolation: {NESTED[path]}'))
        elif name == "features" and key not in _FEATURES:
            report.append(("warning", f'"{name}.{key}" is not among the features that are tested with isolation; it is left out'))
        else:
            kept[key] = inner
    return kept
