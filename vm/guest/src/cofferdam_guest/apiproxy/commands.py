"""The command list of Docker socket mounts: which requests a command's name stands for.

A list names commands of the CLI, but what is judged is the request, whoever sends it. So a name in a deny list blocks the
requests that make the command what it is (`own`), for every other command that needs them too: denying `create` stops `run`,
denying `image*` stops a `run` that must pull. A name in an allow list lets these through and what the CLI asks for with them
(`needs`), nothing else: `run` does not include `pull`. The engine's ping and version are always let through: clients agree on an
API version by them.

What a list cannot say: `push` does not cover a build that pushes its result, nor a container that brings its own client;
`build` does not cover a builder that runs in a container of its own (create, exec, cp).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cofferdam_guest.config.commandnames import CLIENT_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cofferdam_guest.apiproxy.query import Query

ALWAYS = frozenset(("SystemPing", "SystemPingHead", "SystemVersion"))


@dataclass(frozen=True)
class Command:
    """The requests of one name, as route ids; `POST /images/create` is `ImagePull` or `ImageImport` by its query."""

    own: tuple[str, ...]
    needs: tuple[str, ...] = ()


_BUILD = ("ImageBuild", "BuildCancel", "Session", "Grpc")
_ATTACH = ("ContainerAttach", "ContainerAttachWebsocket")
_ARCHIVE = ("ContainerArchiveInfo", "ContainerArchiveGet", "ContainerArchivePut")
_EXEC = ("ExecCreate", "ExecStart", "ExecResize", "ExecInspect")
_SAVE = ("ImageGet", "ImageGetAll")
_PRUNES = ("ContainerPrune", "ImagePrune", "NetworkPrune", "VolumePrune", "BuildPrune")
_NODE = ("NodeList", "NodeInspect", "NodeUpdate", "NodeDelete")
_SERVICE = ("ServiceList", "ServiceInspect", "ServiceCreate", "ServiceUpdate", "ServiceDelete", "ServiceLogs")
_TASK = ("TaskList", "TaskInspect", "TaskLogs")
_SWARM = ("SwarmInspect", "SwarmInit", "SwarmJoin", "SwarmLeave", "SwarmUpdate", "SwarmUnlock", "SwarmUnlockkey")
_SECRET = ("SecretList", "SecretInspect", "SecretCreate", "SecretUpdate", "SecretDelete")
_CONFIG = ("ConfigList", "ConfigInspect", "ConfigCreate", "ConfigUpdate", "ConfigDelete")
_INSPECT = (
    *("ContainerInspect", "ImageInspect", "NetworkInspect", "VolumeInspect", "NodeInspect", "ServiceInspect", "TaskInspect"),
    *("PluginInspect", "SecretInspect", "ConfigInspect"),
)
_CONTAINER = (
    *(
        "ContainerList",
        "ContainerCreate",
        "ContainerStart",
        "ContainerStop",
        "ContainerRestart",
        "ContainerKill",
        "ContainerPause",
    ),
    *("ContainerUnpause", "ContainerRename", "ContainerUpdate", "ContainerWait", "ContainerDelete", "ContainerPrune"),
    *("ContainerResize", "ContainerInspect", "ContainerLogs", "ContainerTop", "ContainerStats", "ContainerChanges"),
    *("ContainerExport", "ImageCommit", *_ATTACH, *_ARCHIVE, *_EXEC),
)
_IMAGE = (
    *(
        "ImageList",
        "ImagePull",
        "ImageImport",
        "ImagePush",
        "ImageTag",
        "ImageHistory",
        "ImageInspect",
        "ImageDelete",
        "ImagePrune",
    ),
    *("ImageLoad", "ImageSearch", *_SAVE, *_BUILD),
)

COMMANDS: dict[str, Command] = {
    "attach": Command(_ATTACH, ("ContainerInspect", "ContainerResize", "ContainerWait")),
    **dict.fromkeys(("build", "bake", "buildx"), Command(_BUILD, ("SystemInfo",))),
    "builder": Command((*_BUILD, "BuildPrune"), ("SystemInfo",)),
    "checkpoint": Command(("CheckpointList", "CheckpointCreate", "CheckpointDelete")),
    "commit": Command(("ImageCommit",)),
    "config": Command(_CONFIG),
    "cp": Command(_ARCHIVE),
    "create": Command(("ContainerCreate",)),
    "diff": Command(("ContainerChanges",)),
    "events": Command(("SystemEvents",)),
    "exec": Command(("ExecCreate", "ExecStart"), ("ContainerInspect", "ExecInspect", "ExecResize")),
    "export": Command(("ContainerExport",)),
    "history": Command(("ImageHistory",)),
    "images": Command(("ImageList",)),
    "import": Command(("ImageImport",)),
    "info": Command(("SystemInfo",)),
    "inspect": Command(_INSPECT),
    "kill": Command(("ContainerKill",)),
    "load": Command(("ImageLoad",)),
    "login": Command(("SystemAuth",), ("SystemInfo",)),
    "logs": Command(("ContainerLogs",), ("ContainerInspect",)),
    "node": Command(_NODE, ("TaskList",)),
    "pause": Command(("ContainerPause",)),
    "port": Command(("ContainerInspect",)),
    "ps": Command(("ContainerList",)),
    "pull": Command(("ImagePull",)),
    "push": Command(("ImagePush",)),
    "rename": Command(("ContainerRename",)),
    "restart": Command(("ContainerRestart",)),
    "rm": Command(("ContainerDelete",)),
    "rmi": Command(("ImageDelete",)),
    "run": Command(("ContainerCreate",), ("ContainerAttach", "ContainerResize", "ContainerStart", "ContainerWait")),
    "save": Command(_SAVE),
    "search": Command(("ImageSearch",)),
    "secret": Command(_SECRET),
    "service": Command((*_SERVICE, *_TASK), ("DistributionInspect",)),
    "stack": Command((*_SERVICE, *_TASK), ("DistributionInspect",)),
    "start": Command(("ContainerStart",)),
    "stats": Command(("ContainerStats",), ("ContainerList", "SystemEvents")),
    "stop": Command(("ContainerStop",)),
    "swarm": Command(_SWARM),
    "tag": Command(("ImageTag",)),
    "top": Command(("ContainerTop",)),
    "unpause": Command(("ContainerUnpause",)),
    "update": Command(("ContainerUpdate",)),
    "version": Command(("SystemVersion",)),
    "wait": Command(("ContainerWait",)),
    "build*": Command((*_BUILD, "BuildPrune"), ("SystemInfo",)),
    "container*": Command(_CONTAINER, ("SystemEvents",)),
    "image*": Command(_IMAGE, ("SystemInfo",)),
    "network*": Command(
        ("NetworkList", "NetworkInspect", "NetworkCreate", "NetworkConnect", "NetworkDisconnect", "NetworkPrune", "NetworkDelete")
    ),
    "system*": Command(("SystemInfo", "SystemEvents", "SystemDataUsage", "SystemAuth", *_PRUNES)),
    "volume*": Command(("VolumeList", "VolumeInspect", "VolumeCreate", "VolumePrune", "VolumeUpdate", "VolumeDelete")),
    **dict.fromkeys(CLIENT_ONLY, Command(())),
}
"""Every name that a list may hold, of config.commandnames."""


def allowed(mode: str, commands: Iterable[str], route_id: str, query: Query) -> bool:
    """Whether the command list lets a request through.

    Args:
        mode: `deny` (the listed ones are blocked) or `allow` (all others are); anything else lets nothing but ALWAYS through.
        commands: the names and wildcards of the list.
        route_id: of the request's route.
        query: its checked query, which tells a pull from an import.
    """
    return not blocked_by(mode, commands, route_id, query)


def blocked_by(mode: str, commands: Iterable[str], route_id: str, query: Query) -> str:
    """The name to blame for a blocked request, for `denial`; "" when it is let through.

    That is the listed name of a deny list, and for an allow list the names of which one would have let it through.
    """
    request = _request(route_id, query)
    if request in ALWAYS:
        return ""
    if mode == "deny":
        return next((name for name in commands if name not in COMMANDS or request in COMMANDS[name].own), "")
    listed = [COMMANDS[name] for name in commands if name in COMMANDS] if mode == "allow" else []
    if any(request in command.own or request in command.needs for command in listed):
        return ""
    return " or ".join(name for name, command in COMMANDS.items() if request in command.own) or "no command"


def denial(command_name: str, request_path: str) -> str:
    """The text of a blocked request.

    Args:
        command_name: of `blocked_by`.
        request_path: the target as the client sent it, query included; Docker's own text shows it, and scripts look for it.
    """
    return (
        f'enhanced container isolation: docker command "{request_path}" is blocked; if you wish to allow it, configure the docker'
        f" socket command list in admin-settings.json (command: {command_name})."
    )


def _request(route_id: str, query: Query) -> str:
    """The route id, but pull and import told apart as dockerd does: by a `fromImage` that is not empty."""
    if route_id != "ImageCreate":
        return route_id
    return "ImagePull" if query.text("fromImage") else "ImageImport"
