"""What a verdict is about: a decoded request, the policy, and what can be looked up about the engine's objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cofferdam_guest.config.policy import Policy

Body = dict[str, Any]


class Facts(Protocol):
    """Look-ups. Names come from clients: whoever makes a path of one has to encode it.

    Any exception ends the request: what cannot be looked up is not allowed.
    """

    @property
    def shares(self) -> Sequence[str]:
        """Where directories of the desktop are mounted."""
        ...

    async def volume(self, name: str) -> Body | None:
        """dockerd's inspection of a volume, None when there is none."""
        ...

    async def container(self, name: str) -> Body | None:
        """dockerd's inspection of a container, None when there is none."""
        ...

    async def image(self, name: str) -> Body | None:
        """dockerd's inspection of an image, None when there is none."""
        ...

    async def socket_mount_allowed(self, image: str) -> bool:
        """Whether an image, given by reference or id, may have the Docker socket."""
        ...

    async def desktop_port_refusal(self, container: str, ports: Sequence[tuple[str, int]]) -> str:
        """Have the desktop open ports, such as ("tcp", 8080), for a container about to start; why it cannot, else empty."""
        ...

    async def discard(self, container: str) -> None:
        """Remove a container that was to go at its end, and will not start."""
        ...

    async def resolve(self, path: str) -> str:
        """The absolute path with the links of the VM followed, as dockerd would open it now; missing parts stay as they are."""
        ...


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        route_id: name of the route, see routetable.py.
        params: what stands for the names in the route's template.
        query: checked parameters: text, list of texts, or the decoded value of a JSON one (`Query.values`).
        body: decoded JSON with Go's field names, None for no body and for streams.
        version: `1.45`, None when the client named none.
        door: `host` or `container`.
        policy: what holds.
        facts: look-ups.
    """

    route_id: str
    policy: Policy
    facts: Facts
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Body | None = None
    version: str | None = None
    door: str = "host"
