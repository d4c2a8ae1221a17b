"""Builds by `POST /build`, whose whole policy is in the query. BuildKit's own requests are judged elsewhere."""

from __future__ import annotations

from cofferdam_guest.apiproxy.judge import hostconfig, registries
from cofferdam_guest.apiproxy.judge.refusals import policy
from cofferdam_guest.apiproxy.judge.request import Request

# the context comes with the request, or over the session
_CLIENT_SIDE = ("", "client-session", "upload-request")
_NO_HOST = (
    "granting entitlement network.host is not allowed by build daemon configuration: network.host is not allowed, because builds"
    " can't share a network namespace with the host; a builder of the docker-container driver has a network of its own to share"
)


async def create(request: Request) -> Request:
    """Judge a build. Raises Denied."""
    query = request.query
    if query.get("networkmode") == hostconfig.HOST:
        raise policy("build-network", _NO_HOST)
    if query.get("cgroupparent"):
        hostconfig.check_cgroup_parent(query["cgroupparent"], request.policy)
    if query.get("securityopt"):
        raise policy("build-security", "security options are not available to builds")
    hostconfig.check_limits(list(query.get("ulimits") or []), request.policy)
    remote = query.get("remote") or ""
    if remote.startswith("github.com/"):
        remote = f"https://{remote}"
    if remote not in _CLIENT_SIDE:
        registries.check_url(remote, request.policy)
    return request
