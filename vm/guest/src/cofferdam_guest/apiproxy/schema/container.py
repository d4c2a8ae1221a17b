"""Bodies of container routes (Go: runconfig.ContainerConfigWrapper, api/types/container, api/types.ExecConfig).

dockerd embeds both `Config` and `HostConfig` in the body of `create`: a `Privileged` beside `Image` counts when there is no
`HostConfig`. Only the seven such fields that clients ever sent are known here, and `settle` moves them to where rules look.
"""

from __future__ import annotations

from typing import Any

from cofferdam_guest.apiproxy.schema.kinds import Bool, Int, Kind, ListOf, MapOf, Object, Str, Words, bad
from cofferdam_guest.apiproxy.schema.mounts import MOUNT
from cofferdam_guest.apiproxy.schema.network import NETWORKING
from cofferdam_guest.apiproxy.schema.resources import ALIASES, IGNORED, RESOURCES, RESTART_POLICY, STRINGS, TEXTS

_NOTHINGS = MapOf(Object({}))
_CONSOLE_SIZE = ListOf(Int(0, 2**32 - 1), lengths=(0, 2))
_HEALTH_TIMES = ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")
_ATTACH = ("AttachStdin", "AttachStdout", "AttachStderr")

_CONFIG: dict[str, Kind] = {
    **dict.fromkeys(("Hostname", "Domainname", "User", "Image", "WorkingDir", "MacAddress", "StopSignal"), Str()),
    **dict.fromkeys((*_ATTACH, "Tty", "OpenStdin", "StdinOnce", "ArgsEscaped", "NetworkDisabled"), Bool()),
    **dict.fromkeys(("Env", "OnBuild"), STRINGS),
    **dict.fromkeys(("Cmd", "Entrypoint", "Shell"), Words()),
    **dict.fromkeys(("ExposedPorts", "Volumes"), _NOTHINGS),
    "Healthcheck": Object({"Test": STRINGS, **dict.fromkeys(_HEALTH_TIMES, Int())}),
    "Labels": TEXTS,
    "StopTimeout": Int(),
}

_HOST_TEXTS = (
    *("ContainerIDFile", "NetworkMode", "VolumeDriver", "CgroupnsMode", "IpcMode", "Cgroup", "PidMode", "UTSMode", "UsernsMode"),
    *("Runtime", "Isolation"),
)
_HOST_LISTS = (
    *("Binds", "VolumesFrom", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "Links", "SecurityOpt"),
    *("MaskedPaths", "ReadonlyPaths"),
)

HOST_CONFIG = Object(
    {
        **RESOURCES,
        **dict.fromkeys(_HOST_TEXTS, Str()),
        **dict.fromkeys(_HOST_LISTS, STRINGS),
        **dict.fromkeys(("Annotations", "StorageOpt", "Tmpfs", "Sysctls"), TEXTS),
        **dict.fromkeys(("AutoRemove", "Privileged", "PublishAllPorts", "ReadonlyRootfs", "Init"), Bool()),
        **dict.fromkeys(("CapAdd", "CapDrop"), Words()),
        **dict.fromkeys(("OomScoreAdj", "ShmSize"), Int()),
        "ConsoleSize": _CONSOLE_SIZE,
        "Umask": Int(0, 2**32 - 1),
        "LogConfig": Object({"Type": Str(), "Config": TEXTS}),
        "Mounts": ListOf(MOUNT),
        "PortBindings": MapOf(ListOf(Object({"HostIp": Str(), "HostPort": Str()}))),
        "RestartPolicy": RESTART_POLICY,
    },
    aliases=ALIASES | {"DNS": "Dns", "DNSOptions": "DnsOptions", "DNSSearch": "DnsSearch"},
    ignored=IGNORED | {"LxcConf", "InitPath", "Capabilities"},
)

_LEGACY: dict[str, Kind] = {
    **dict.fromkeys(("Memory", "MemorySwap", "CpuShares"), Int()),
    **dict.fromkeys(("Cpuset", "CpusetCpus", "VolumeDriver", "Runtime"), Str()),
}
_MERGED = ("Memory", "MemorySwap", "CpuShares", "CpusetCpus", "VolumeDriver")
_OLD_CLIENTS = frozenset(("PortSpecs", "PublishService", "name", "authConfig", "aliases", "ipv4Address", "ipv6Address"))

CONTAINER_CREATE = Object(
    {**_CONFIG, **_LEGACY, "HostConfig": HOST_CONFIG, "NetworkingConfig": NETWORKING},
    ignored=_OLD_CLIENTS,
)
_COMMIT_EXTRAS = frozenset(("containerId", "repository", "tag", "author", "message", "pause", "Config", "DisableNetwork"))
IMAGE_COMMIT = Object(_CONFIG, ignored=_OLD_CLIENTS | _COMMIT_EXTRAS | {*_LEGACY, "HostConfig", "NetworkingConfig"})
CONTAINER_UPDATE = Object({**RESOURCES, "RestartPolicy": RESTART_POLICY}, aliases=ALIASES, ignored=IGNORED | {"containerId"})

# what dockerode asks of itself
_STREAMS = ("hijack", "stream", "stdin", "stdout", "stderr")
EXEC_CREATE = Object(
    {
        **dict.fromkeys(("User", "DetachKeys", "WorkingDir"), Str()),
        **dict.fromkeys((*_ATTACH, "Privileged", "Tty", "Detach"), Bool()),
        **dict.fromkeys(("Env", "Cmd"), STRINGS),
        "ConsoleSize": _CONSOLE_SIZE,
    },
    aliases={"detachKeys": "DetachKeys"},
    ignored=frozenset(("Container", "containerId")),
)
EXEC_START = Object({"Detach": Bool(), "Tty": Bool(), "ConsoleSize": _CONSOLE_SIZE}, ignored=frozenset(("execId", *_STREAMS)))


def settle(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of `create` with one HostConfig that holds all that dockerd would put into it.

    Raises:
        Denied: 400, nothing of a container's own configuration is there; dockerd refuses that too.
    """
    if not body.keys() & _CONFIG.keys():
        raise bad("", "describes no container: config cannot be empty in order to create a container")
    outer = {name: body[name] for name in _LEGACY if name in body}
    host = dict(body["HostConfig"]) if "HostConfig" in body else {name: one for name, one in outer.items() if name != "Cpuset"}
    for name in _MERGED:
        if outer.get(name) and not host.get(name):
            host[name] = outer[name]
    if outer.get("Cpuset") and not host.get("CpusetCpus"):
        host["CpusetCpus"] = outer["Cpuset"]
    return {name: one for name, one in body.items() if name not in _LEGACY} | {"HostConfig": host}
