"""The verdict on a decoded request: one rule a route. A route without a rule is refused, not passed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from cofferdam_guest.apiproxy.judge import builds, containers, networks, registries, volumes
from cofferdam_guest.apiproxy.judge.refusals import policy
from cofferdam_guest.apiproxy.judge.request import Request

Rule = Callable[[Request], Awaitable[Request]]

# what tells a client that nothing is possible, and why
ALWAYS = frozenset(("SystemPing", "SystemPingHead", "SystemVersion", "SystemInfo"))


async def judge(request: Request) -> Request:
    """Return the request as dockerd may have it; some fields are set to what holds anyway.

    Raises:
        Denied: dockerd must not see it.
    """
    if request.policy.denied and request.route_id not in ALWAYS:
        raise policy("no-policy", f"everything is refused, because there is no usable policy: {request.policy.denied}")
    rule = RULES.get(request.route_id)
    if rule is None:
        raise policy("no-rule", f"{request.route_id} is not available: there is no rule for it")
    return await rule(request)


async def _pass(request: Request) -> Request:
    """Nothing in these requests reaches beyond what the engine's own objects are, and those were judged when they were made."""
    return request


async def _volume(request: Request) -> Request:
    body = request.body or {}
    if body.get("Name"):
        volumes.check_name(body["Name"])
    volumes.check(body.get("Driver") or "", body.get("DriverOpts") or {})
    return replace(request)


_PASSED = (
    *(
        "ContainerList",
        "ContainerExport",
        "ContainerChanges",
        "ContainerInspect",
        "ContainerTop",
        "ContainerLogs",
        "ContainerStats",
    ),
    *("ContainerAttachWebsocket", "ContainerKill", "ContainerPause", "ContainerUnpause", "ContainerStop", "ContainerWait"),
    *("ContainerResize", "ContainerAttach", "ContainerRename", "ContainerPrune", "ContainerDelete"),
    # the wrapper cuts a process down to what its container may
    *("ExecCreate", "ExecInspect", "ExecStart", "ExecResize"),
    *("ImageList", "ImageGetAll", "ImageGet", "ImageHistory", "ImageInspect", "ImageTag", "ImagePrune", "ImageDelete"),
    *("SystemEvents", "SystemDataUsage", *ALWAYS),
    *("VolumeList", "VolumeInspect", "VolumePrune", "VolumeDelete"),
    # a session and BuildKit's own protocol are streams: dockerd's settings keep entitlements off, the wrapper isolates each step
    *("Session", "Grpc", "BuildPrune", "BuildCancel"),
    *("SwarmInspect", "ServiceList", "ServiceInspect", "NodeList", "NodeInspect", "TaskList", "TaskInspect"),
    *("SecretList", "SecretInspect", "ConfigList", "ConfigInspect", "PluginList", "PluginInspect"),
    *("NetworkList", "NetworkInspect", "NetworkConnect", "NetworkDisconnect", "NetworkPrune", "NetworkDelete"),
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(_PASSED, _pass),
    "ContainerCreate": containers.create,
    "ContainerUpdate": containers.update,
    "ImageCommit": containers.commit,
    **dict.fromkeys(("ContainerStart", "ContainerRestart"), containers.existing),
    **dict.fromkeys(("ContainerArchiveInfo", "ContainerArchiveGet", "ContainerArchivePut"), containers.existing),
    "VolumeCreate": _volume,
    "ImageCreate": registries.create,
    **dict.fromkeys(("ImagePush", "DistributionInspect"), registries.by_name),
    "ImageSearch": registries.search,
    "SystemAuth": registries.login,
    "ImageLoad": registries.load,
    "ImageBuild": builds.create,
    "NetworkCreate": networks.create,
}
