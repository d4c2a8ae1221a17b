"""What the proxy knows of one route of the engine's API."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTHING: Mapping[str, str] = MappingProxyType({})
_CONTENT_TYPES = {"json": "application/json", "stream": "application/x-tar"}


@dataclass(frozen=True)
class Route:
    """One method and path of the API.

    Attributes:
        id: the name by which rules speak of it, `ContainerCreate`.
        method: `GET`; `*` for the routes that dockerd registers without one.
        template: dockerd's own spelling, `/containers/{name:.*}/start`.
        query: parameter to kind: str, bool, int, json:<schema>, filters, list.
        body: `none` (the schema "Nothing" tells what may stand there; dockerd gets none), `json:<schema>` or `stream`.
        hijack: what the connection becomes: "", `raw`, `h2c` or `websocket`.
        allowed: whether requests are served at all.
        reason: why not; "" for the allowed ones.
    """

    id: str
    method: str
    template: str
    query: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    body: str = "none"
    hijack: str = ""
    allowed: bool = True
    reason: str = ""

    @property
    def content_type(self) -> str:
        """The Content-Type that dockerd gets, "" for none: a form type would let the body overrule the query."""
        return _CONTENT_TYPES.get(self.body.partition(":")[0], "")

    @property
    def schema(self) -> str:
        """The schema of a JSON body, "" when there is none."""
        kind, _, name = self.body.partition(":")
        return name if kind == "json" else ""
