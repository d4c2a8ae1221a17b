"""Which route a request means: as dockerd's router decides, or refused."""

from __future__ import annotations

import pytest

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.routes import ROUTES, match, refuse


@pytest.mark.parametrize(
    ("method", "path", "route", "params"),
    [
        ("GET", "/containers/json", "ContainerList", {}),
        ("GET", "/containers/json/json", "ContainerInspect", {"name": "json"}),
        ("GET", "/containers/a/b/json", "ContainerInspect", {"name": "a/b"}),
        ("GET", "/containers/a/attach/ws", "ContainerAttachWebsocket", {"name": "a"}),
        ("POST", "/containers/create", "ContainerCreate", {}),
        ("POST", "/containers/create/start", "ContainerStart", {"name": "create"}),
        ("POST", "/containers/a/exec", "ExecCreate", {"name": "a"}),
        ("POST", "/exec/a/start", "ExecStart", {"name": "a"}),
        ("GET", "/exec/a/json", "ExecInspect", {"id": "a"}),
        ("POST", "/containers/prune", "ContainerPrune", {}),
        ("DELETE", "/containers/prune", "ContainerDelete", {"name": "prune"}),
        ("DELETE", "/containers/a/checkpoints/b", "CheckpointDelete", {"name": "a", "checkpoint": "b"}),
        ("DELETE", "/containers/a/b/checkpoints/c", "ContainerDelete", {"name": "a/b/checkpoints/c"}),
        ("HEAD", "/containers/a/archive", "ContainerArchiveInfo", {"name": "a"}),
        ("GET", "/images/json", "ImageList", {}),
        ("GET", "/images/json/json", "ImageInspect", {"name": "json"}),
        ("GET", "/images/get", "ImageGetAll", {}),
        ("GET", "/images/get/get", "ImageGet", {"name": "get"}),
        ("GET", "/images/get/json", "ImageInspect", {"name": "get"}),
        ("GET", "/images/a/history/json", "ImageInspect", {"name": "a/history"}),
        ("GET", "/images/a/json/history", "ImageHistory", {"name": "a/json"}),
        ("POST", "/images/create", "ImageCreate", {}),
        ("POST", "/images/create/push", "ImagePush", {"name": "create"}),
        ("POST", "/images/registry.example.com:5000/a/tag/push", "ImagePush", {"name": "registry.example.com:5000/a/tag"}),
        ("POST", "/images/a/push/tag", "ImageTag", {"name": "a/push"}),
        ("DELETE", "/images/a/json", "ImageDelete", {"name": "a/json"}),
        ("GET", "/volumes/create", "VolumeInspect", {"name": "create"}),
        ("POST", "/volumes/create", "VolumeCreate", {}),
        ("GET", "/networks/create", "NetworkInspect", {"id": "create"}),
        ("DELETE", "/networks/prune", "NetworkDelete", {"id": "prune"}),
        ("POST", "/networks/create/connect", "NetworkConnect", {"id": "create"}),
        ("GET", "/plugins/privileges", "PluginPrivileges", {}),
        ("GET", "/plugins/privileges/json", "PluginInspect", {"name": "privileges"}),
        ("GET", "/services/create", "ServiceInspect", {"id": "create"}),
        ("GET", "/distribution/docker.io/library/alpine/json", "DistributionInspect", {"name": "docker.io/library/alpine"}),
        ("PATCH", "/debug/pprof/heap", "DebugNamed", {"name": "heap"}),
        ("OPTIONS", "/containers/json", "Options", {"anyroute": "containers/json"}),
    ],
)
def test_the_first_route_in_dockerds_order_is_taken(method, path, route, params):
    found = match(method, path)
    assert (found.route.id, found.params) == (route, params)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/containersXYZ", 404),
        ("GET", "/containers", 404),
        ("GET", "/x/containers/json", 404),
        ("GET", "/v1.45/containers/json", 404),
        ("POST", "/containers/a/copy", 405),
        ("GET", "/images/a/push/attestations", 405),
        ("POST", "/swarm", 405),
        ("get", "/containers/json", 405),
        ("HEAD", "/containers/json", 405),
        ("PUT", "/containers/create", 405),
        ("CONNECT", "/info", 405),
        ("TRACE", "/info", 405),
        ("GET", "/Containers/json", 404),
        ("GET", "/services/a/b", 404),
        ("POST", "/grpc/x", 404),
        ("PRI", "*", 404),
    ],
)
def test_what_dockerd_does_not_serve_is_unknown(method, path, status):
    """Where a DELETE takes any path, another method of it is refused rather than unknown; dockerd says 404 for both."""
    with pytest.raises(Denied) as caught:
        match(method, path)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "request_line",
    [
        *("POST /plugins/pull", "POST /plugins/a/b/enable", "DELETE /plugins/a", "POST /plugins/create", "POST /plugins/a/set"),
        *("POST /swarm/init", "POST /swarm/join", "POST /services/create", "POST /secrets/create", "POST /configs/create"),
        *("PUT /volumes/a", "GET /containers/a/checkpoints", "POST /containers/a/checkpoints", "GET /debug/vars"),
        *("GET /debug/pprof/cmdline", "OPTIONS /info", "GET /swarm/unlockkey", "GET /plugins/privileges"),
    ],
)
def test_p34_what_would_leave_the_containers_is_refused(request_line):
    with pytest.raises(Denied) as caught:
        refuse(match(*request_line.split(" ")).route)
    assert caught.value.status == 403
    assert "is not available in this VM: " in caught.value.message


@pytest.mark.parametrize(
    "path", ["/plugins", "/swarm", "/services", "/nodes", "/tasks", "/secrets", "/configs", "/plugins/a/json"]
)
def test_what_clients_ask_in_passing_is_served(path):
    refuse(match("GET", path).route)


def test_connections_that_change_their_protocol_are_known():
    assert {route.id: route.hijack for route in ROUTES if route.hijack} == {
        "ContainerAttach": "raw",
        "ExecStart": "raw",
        "ContainerAttachWebsocket": "websocket",
        "Session": "h2c",
        "Grpc": "h2c",
    }


def test_dockerd_never_gets_a_form():
    """A form in the body would overrule the query (Go: Request.ParseForm)."""
    assert {route.content_type for route in ROUTES} == {"", "application/json", "application/x-tar"}
    assert match("POST", "/build").route.content_type == "application/x-tar"
    assert match("POST", "/containers/create").route.schema == "ContainerCreate"
