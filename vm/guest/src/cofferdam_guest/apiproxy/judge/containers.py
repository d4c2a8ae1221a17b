"""Containers: created, changed, and those that exist when they are started or when dockerd opens their files."""

from __future__ import annotations

from dataclasses import replace

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.judge import desktop, hostconfig, mounts
from cofferdam_guest.apiproxy.judge.refusals import policy
from cofferdam_guest.apiproxy.judge.request import Body, Request
from cofferdam_guest.apiproxy.judge.sources import Judge, target

# the names that daemon.json gives the wrapper, and the shim that runs it; a container can be older than the policy
RUNTIMES = ("", "runc", "cofferdam", hostconfig.RUNTIME, "io.containerd.runc.v2")
STARTS = ("ContainerStart", "ContainerRestart")


async def create(request: Request) -> Request:
    """Judge a new container. Returns the request with what is ignored taken out. Raises Denied."""
    body = request.body or {}
    host: Body = body.get("HostConfig") or {}
    hostconfig.check(host, request.policy)
    for name in (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}:
        hostconfig.check_network(name, request.policy)
    image = body.get("Image") or ""
    wanted = await mounts.requested(body, host, request.facts)
    await Judge(request.policy, request.facts, image, image, is_new=True).check(wanted)
    return replace(request, body=body | {"HostConfig": hostconfig.rewritten(host)})


async def update(request: Request) -> Request:
    """Judge a change of a container's resources: the fields that it shares with HostConfig. Raises Denied."""
    hostconfig.check(request.body or {}, request.policy)
    return request


async def commit(request: Request) -> Request:
    """Judge the configuration of an image to be made from a container. Raises Denied."""
    for each in await mounts.requested({"Volumes": (request.body or {}).get("Volumes")}, {}, request.facts):
        target(each)
    return request


async def existing(request: Request) -> Request:
    """Judge a container as it is, made under this policy or not: to start it, and to copy files, for which dockerd mounts
    everything that it has. Raises Denied.
    """
    if request.query.get("checkpoint") or request.query.get("checkpoint-dir"):
        raise policy("checkpoint", "checkpoint is not supported: a checkpoint would bypass isolation")
    container = await request.facts.container(request.params["name"])
    if container is None:
        return request  # dockerd says so
    try:
        await _as_it_is(container, request)
    except Denied:
        if request.route_id == "ContainerStart" and _ends_with_its_start(container):
            await request.facts.discard(str(container.get("Id") or ""))
        raise
    return request


def _ends_with_its_start(container: Body) -> bool:
    """Whether dockerd itself would remove a container when it does not start: `docker run --rm` waits for its end."""
    host, state = container.get("HostConfig") or {}, container.get("State") or {}
    return bool(host.get("AutoRemove")) and state.get("Status") == "created"


async def _as_it_is(container: Body, request: Request) -> None:
    host = container.get("HostConfig") or {}
    hostconfig.check(host, request.policy)
    if (host.get("Runtime") or "") not in RUNTIMES:
        raise policy("runtime", f"runtime {host['Runtime']} is not the isolating one: remove the container and make it anew")
    named = (container.get("Config") or {}).get("Image") or ""
    # by id: a tag may have been moved since
    await Judge(request.policy, request.facts, container.get("Image") or named, named).check(mounts.existing(container))
    if request.route_id in STARTS:
        await desktop.check_ports(container, request.facts)
