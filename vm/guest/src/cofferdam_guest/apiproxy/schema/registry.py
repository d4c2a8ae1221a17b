"""The schemas by name, as the route table names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cofferdam_guest.apiproxy.schema.container import (
    CONTAINER_CREATE,
    CONTAINER_UPDATE,
    EXEC_CREATE,
    EXEC_START,
    IMAGE_COMMIT,
    settle,
)
from cofferdam_guest.apiproxy.schema.kinds import Bool, Either, Kind, ListOf, MapOf, Object, Refused, Str
from cofferdam_guest.apiproxy.schema.network import NETWORK_CONNECT, NETWORK_CREATE, NETWORK_DISCONNECT
from cofferdam_guest.apiproxy.schema.resources import STRINGS, TEXTS, ULIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

_AUTH = ("username", "password", "auth", "email", "serveraddress", "identitytoken", "registrytoken")
_CLUSTER = Refused("cluster volumes are part of a swarm")

SCHEMAS: dict[str, Kind] = {
    "ContainerCreate": CONTAINER_CREATE,
    "ContainerUpdate": CONTAINER_UPDATE,
    "ExecCreate": EXEC_CREATE,
    "ExecStart": EXEC_START,
    "ImageCommit": IMAGE_COMMIT,
    "NetworkCreate": NETWORK_CREATE,
    "NetworkConnect": NETWORK_CONNECT,
    "NetworkDisconnect": NETWORK_DISCONNECT,
    "VolumeCreate": Object(
        {
            **dict.fromkeys(("Name", "Driver"), Str()),
            **dict.fromkeys(("DriverOpts", "Labels"), TEXTS),
            "ClusterVolumeSpec": _CLUSTER,
        }
    ),
    "AuthConfig": Object(dict.fromkeys(_AUTH, Str()), ignored=frozenset(("stackOrchestrator",))),
    # what clients send to routes without a body: "", null or {}; docker-java and dockerode also what is in the path or the query
    "Nothing": Object({}, ignored=frozenset(("containerId", "execId", "height", "width", "hijack"))),
    # in the query
    "BuildArgs": MapOf(Str(), nullable=True),
    "BuildOutputs": ListOf(Object({"Type": Str(), "Attrs": TEXTS})),
    "Filters": MapOf(Either(dict, MapOf(Bool()), STRINGS)),
    "Labels": TEXTS,
    "Strings": STRINGS,
    "Ulimits": ULIMITS,
}

NEEDS_BODY = frozenset(("ContainerCreate",))
"""Where dockerd takes an empty body for an error."""

SETTLE: dict[str, Callable[[Any], Any]] = {"ContainerCreate": settle}
"""What is done to a value once every part of it is checked."""
