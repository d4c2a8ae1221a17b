"""Every route of dockerd 26.1.5, in its registration order: allowed, or refused with the reason.

Facts from dockerd's `api/server/router` and `cmd/dockerd/daemon.go` (order of the routers: checkpoint, container, image, system,
volume, build, session, swarm, plugin, distribution, grpc, network, then debug). A contract test compares the table with the list
extracted from that source. Parameters hold those of dockerd 26.1.5, of newer engines where their clients send them, and of the
clients that still send what dockerd no longer reads.
"""

from __future__ import annotations

from cofferdam_guest.apiproxy.route import Route

_NO_CHECKPOINTS = "checkpoints restore processes from files that anybody could have written"
_NO_DEBUG = "it shows the memory and the command line of dockerd"
_NO_OPTIONS = "it serves browsers, and no browser may use this API"
_NO_PLUGINS = "plugins run as root of the VM, outside of every container"
_NO_SWARM = "tasks of a swarm are created inside dockerd, where no rule of this proxy applies"
_NO_SLASH = "write /networks without a trailing slash"

_LIST = {"filters": "filters"}
_LOGS = dict.fromkeys(("follow", "stdout", "stderr", "timestamps", "details"), "bool") | dict.fromkeys(
    ("since", "until", "tail"), "str"
)
_ATTACH = dict.fromkeys(("logs", "stream", "stdin", "stdout", "stderr"), "bool") | {"detachKeys": "str"}
_ARCHIVE = {"path": "str"}
_SIZE = {"h": "int", "w": "int"}
_STOP = {"t": "int", "signal": "str"}
_FORCE = {"force": "bool"}
_PLATFORM = {"platform": "str"}

_BUILD = (
    dict.fromkeys(("q", "nocache", "rm", "forcerm", "pull", "squash"), "bool")
    | dict.fromkeys(("memory", "memswap", "cpushares", "cpuperiod", "cpuquota", "shmsize"), "int")
    | dict.fromkeys(("dockerfile", "cpusetcpus", "cpusetmems", "cgroupparent", "networkmode", "target", "remote"), "str")
    | dict.fromkeys(("session", "buildid", "platform", "isolation", "version"), "str")
    | dict.fromkeys(("t", "extrahosts", "securityopt"), "list")
    | {"buildargs": "json:BuildArgs", "labels": "json:Labels", "cachefrom": "json:Strings"}
    | {"ulimits": "json:Ulimits", "outputs": "json:BuildOutputs"}
)
_CREATE_IMAGE = dict.fromkeys(("fromImage", "fromSrc", "repo", "tag", "message", "platform"), "str") | {"changes": "list"}
_COMMIT = dict.fromkeys(("container", "repo", "tag", "comment", "author", "m"), "str") | {"pause": "bool", "changes": "list"}
_LIST_CONTAINERS = (
    dict.fromkeys(("all", "size", "trunc_cmd"), "bool") | dict.fromkeys(("since", "before"), "str") | {"limit": "int"} | _LIST
)
_LIST_IMAGES = dict.fromkeys(("all", "digests", "shared-size", "manifests", "only_ids"), "bool") | {"filter": "str"} | _LIST
_PRUNE_BUILD = (
    {"all": "bool", "keep-storage": "int"} | _LIST | dict.fromkeys(("reserved-space", "max-used-space", "min-free-space"), "int")
)


def _no(name: str, method: str, template: str, reason: str) -> Route:
    """A refused route: neither its query nor its body is ever read."""
    return Route(name, method, template, allowed=False, reason=reason)


_CHECKPOINTS = (
    _no("CheckpointList", "GET", "/containers/{name:.*}/checkpoints", _NO_CHECKPOINTS),
    _no("CheckpointCreate", "POST", "/containers/{name:.*}/checkpoints", _NO_CHECKPOINTS),
    _no("CheckpointDelete", "DELETE", "/containers/{name}/checkpoints/{checkpoint}", _NO_CHECKPOINTS),
)

_CONTAINERS = (
    Route("ContainerArchiveInfo", "HEAD", "/containers/{name:.*}/archive", _ARCHIVE),
    Route("ContainerList", "GET", "/containers/json", _LIST_CONTAINERS),
    Route("ContainerExport", "GET", "/containers/{name:.*}/export"),
    Route("ContainerChanges", "GET", "/containers/{name:.*}/changes"),
    Route("ContainerInspect", "GET", "/containers/{name:.*}/json", {"size": "bool"}),
    Route("ContainerTop", "GET", "/containers/{name:.*}/top", {"ps_args": "str"}),
    Route("ContainerLogs", "GET", "/containers/{name:.*}/logs", _LOGS),
    Route("ContainerStats", "GET", "/containers/{name:.*}/stats", {"stream": "bool", "one-shot": "bool"}),
    Route("ContainerAttachWebsocket", "GET", "/containers/{name:.*}/attach/ws", _ATTACH, hijack="websocket"),
    Route("ExecInspect", "GET", "/exec/{id:.*}/json"),
    Route("ContainerArchiveGet", "GET", "/containers/{name:.*}/archive", _ARCHIVE),
    Route("ContainerCreate", "POST", "/containers/create", {"name": "str"} | _PLATFORM, "json:ContainerCreate"),
    Route("ContainerKill", "POST", "/containers/{name:.*}/kill", {"signal": "str"}),
    Route("ContainerPause", "POST", "/containers/{name:.*}/pause"),
    Route("ContainerUnpause", "POST", "/containers/{name:.*}/unpause"),
    Route("ContainerRestart", "POST", "/containers/{name:.*}/restart", _STOP),
    Route(
        "ContainerStart",
        "POST",
        "/containers/{name:.*}/start",
        {"checkpoint": "str", "checkpoint-dir": "str", "detachKeys": "str"},
    ),
    Route("ContainerStop", "POST", "/containers/{name:.*}/stop", _STOP),
    Route("ContainerWait", "POST", "/containers/{name:.*}/wait", {"condition": "str"}),
    Route("ContainerResize", "POST", "/containers/{name:.*}/resize", _SIZE),
    Route("ContainerAttach", "POST", "/containers/{name:.*}/attach", _ATTACH, hijack="raw"),
    Route("ExecCreate", "POST", "/containers/{name:.*}/exec", body="json:ExecCreate"),
    Route("ExecStart", "POST", "/exec/{name:.*}/start", body="json:ExecStart", hijack="raw"),
    Route("ExecResize", "POST", "/exec/{name:.*}/resize", _SIZE),
    Route("ContainerRename", "POST", "/containers/{name:.*}/rename", {"name": "str"}),
    Route("ContainerUpdate", "POST", "/containers/{name:.*}/update", body="json:ContainerUpdate"),
    Route("ContainerPrune", "POST", "/containers/prune", _LIST),
    Route("ImageCommit", "POST", "/commit", _COMMIT, "json:ImageCommit"),
    Route(
        *("ContainerArchivePut", "PUT", "/containers/{name:.*}/archive"),
        *(_ARCHIVE | {"noOverwriteDirNonDir": "bool", "copyUIDGID": "bool"}, "stream"),
    ),
    Route("ContainerDelete", "DELETE", "/containers/{name:.*}", {"v": "bool", "link": "bool"} | _FORCE),
)

_IMAGES = (
    Route("ImageList", "GET", "/images/json", _LIST_IMAGES),
    Route("ImageSearch", "GET", "/images/search", {"term": "str", "limit": "int"} | _LIST),
    Route("ImageGetAll", "GET", "/images/get", {"names": "list", "platform": "list"}),
    Route("ImageGet", "GET", "/images/{name:.*}/get", {"platform": "list"}),
    Route("ImageHistory", "GET", "/images/{name:.*}/history", _PLATFORM),
    Route("ImageInspect", "GET", "/images/{name:.*}/json", {"manifests": "bool"} | _PLATFORM),
    Route("ImageLoad", "POST", "/images/load", {"quiet": "bool", "platform": "list"}, "stream"),
    Route("ImageCreate", "POST", "/images/create", _CREATE_IMAGE, "stream"),
    Route("ImagePush", "POST", "/images/{name:.*}/push", {"tag": "str"} | _PLATFORM, "json:AuthConfig"),
    Route("ImageTag", "POST", "/images/{name:.*}/tag", {"repo": "str", "tag": "str"} | _FORCE),
    Route("ImagePrune", "POST", "/images/prune", _LIST),
    Route("ImageDelete", "DELETE", "/images/{name:.*}", {"noprune": "bool", "platforms": "list"} | _FORCE),
)

_SYSTEM = (
    _no("Options", "OPTIONS", "/{anyroute:.*}", _NO_OPTIONS),
    Route("SystemPing", "GET", "/_ping"),
    Route("SystemPingHead", "HEAD", "/_ping"),
    Route("SystemEvents", "GET", "/events", {"since": "str", "until": "str"} | _LIST),
    Route("SystemInfo", "GET", "/info"),
    Route("SystemVersion", "GET", "/version"),
    Route("SystemDataUsage", "GET", "/system/df", {"type": "list", "verbose": "bool"}),
    Route("SystemAuth", "POST", "/auth", body="json:AuthConfig"),
)

_VOLUMES = (
    Route("VolumeList", "GET", "/volumes", _LIST),
    Route("VolumeInspect", "GET", "/volumes/{name:.*}"),
    Route("VolumeCreate", "POST", "/volumes/create", body="json:VolumeCreate"),
    Route("VolumePrune", "POST", "/volumes/prune", _LIST),
    _no("VolumeUpdate", "PUT", "/volumes/{name:.*}", _NO_SWARM),
    Route("VolumeDelete", "DELETE", "/volumes/{name:.*}", _FORCE),
)

_BUILDS = (
    Route("ImageBuild", "POST", "/build", _BUILD, "stream"),
    Route("BuildPrune", "POST", "/build/prune", _PRUNE_BUILD),
    Route("BuildCancel", "POST", "/build/cancel", {"id": "str"}),
    Route("Session", "POST", "/session", hijack="h2c"),
)

_SWARM = (
    _no("SwarmInit", "POST", "/swarm/init", _NO_SWARM),
    _no("SwarmJoin", "POST", "/swarm/join", _NO_SWARM),
    _no("SwarmLeave", "POST", "/swarm/leave", _NO_SWARM),
    Route("SwarmInspect", "GET", "/swarm"),
    _no("SwarmUnlockkey", "GET", "/swarm/unlockkey", _NO_SWARM),
    _no("SwarmUpdate", "POST", "/swarm/update", _NO_SWARM),
    _no("SwarmUnlock", "POST", "/swarm/unlock", _NO_SWARM),
    Route("ServiceList", "GET", "/services", {"status": "bool"} | _LIST),
    Route("ServiceInspect", "GET", "/services/{id}", {"insertDefaults": "bool"}),
    _no("ServiceCreate", "POST", "/services/create", _NO_SWARM),
    _no("ServiceUpdate", "POST", "/services/{id}/update", _NO_SWARM),
    _no("ServiceDelete", "DELETE", "/services/{id}", _NO_SWARM),
    _no("ServiceLogs", "GET", "/services/{id}/logs", _NO_SWARM),
    Route("NodeList", "GET", "/nodes", _LIST),
    Route("NodeInspect", "GET", "/nodes/{id}"),
    _no("NodeDelete", "DELETE", "/nodes/{id}", _NO_SWARM),
    _no("NodeUpdate", "POST", "/nodes/{id}/update", _NO_SWARM),
    Route("TaskList", "GET", "/tasks", _LIST),
    Route("TaskInspect", "GET", "/tasks/{id}"),
    _no("TaskLogs", "GET", "/tasks/{id}/logs", _NO_SWARM),
    Route("SecretList", "GET", "/secrets", _LIST),
    _no("SecretCreate", "POST", "/secrets/create", _NO_SWARM),
    _no("SecretDelete", "DELETE", "/secrets/{id}", _NO_SWARM),
    Route("SecretInspect", "GET", "/secrets/{id}"),
    _no("SecretUpdate", "POST", "/secrets/{id}/update", _NO_SWARM),
    Route("ConfigList", "GET", "/configs", _LIST),
    _no("ConfigCreate", "POST", "/configs/create", _NO_SWARM),
    _no("ConfigDelete", "DELETE", "/configs/{id}", _NO_SWARM),
    Route("ConfigInspect", "GET", "/configs/{id}"),
    _no("ConfigUpdate", "POST", "/configs/{id}/update", _NO_SWARM),
)

_PLUGINS = (
    Route("PluginList", "GET", "/plugins", _LIST),
    Route("PluginInspect", "GET", "/plugins/{name:.*}/json"),
    _no("PluginPrivileges", "GET", "/plugins/privileges", _NO_PLUGINS),
    _no("PluginDelete", "DELETE", "/plugins/{name:.*}", _NO_PLUGINS),
    _no("PluginEnable", "POST", "/plugins/{name:.*}/enable", _NO_PLUGINS),
    _no("PluginDisable", "POST", "/plugins/{name:.*}/disable", _NO_PLUGINS),
    _no("PluginPull", "POST", "/plugins/pull", _NO_PLUGINS),
    _no("PluginPush", "POST", "/plugins/{name:.*}/push", _NO_PLUGINS),
    _no("PluginUpgrade", "POST", "/plugins/{name:.*}/upgrade", _NO_PLUGINS),
    _no("PluginSet", "POST", "/plugins/{name:.*}/set", _NO_PLUGINS),
    _no("PluginCreate", "POST", "/plugins/create", _NO_PLUGINS),
)

_OTHERS = (
    Route("DistributionInspect", "GET", "/distribution/{name:.*}/json"),
    Route("Grpc", "POST", "/grpc", hijack="h2c"),
)

_NETWORKS = (
    Route("NetworkList", "GET", "/networks", _LIST),
    _no("NetworkListSlash", "GET", "/networks/", _NO_SLASH),
    Route("NetworkInspect", "GET", "/networks/{id:.+}", {"verbose": "bool", "scope": "str"}),
    Route("NetworkCreate", "POST", "/networks/create", body="json:NetworkCreate"),
    Route("NetworkConnect", "POST", "/networks/{id:.*}/connect", body="json:NetworkConnect"),
    Route("NetworkDisconnect", "POST", "/networks/{id:.*}/disconnect", body="json:NetworkDisconnect"),
    Route("NetworkPrune", "POST", "/networks/prune", _LIST),
    Route("NetworkDelete", "DELETE", "/networks/{id:.*}"),
)

_DEBUG = tuple(
    _no(f"Debug{name}", "*", f"/debug{path}", _NO_DEBUG)
    for name, path in (
        *(("Vars", "/vars"), ("Index", "/pprof/"), ("Cmdline", "/pprof/cmdline"), ("Profile", "/pprof/profile")),
        *(("Symbol", "/pprof/symbol"), ("Trace", "/pprof/trace"), ("Named", "/pprof/{name}")),
    )
)

ROUTES: tuple[Route, ...] = (
    *(*_CHECKPOINTS, *_CONTAINERS, *_IMAGES, *_SYSTEM, *_VOLUMES, *_BUILDS),
    *(*_SWARM, *_PLUGINS, *_OTHERS, *_NETWORKS, *_DEBUG),
)
