"""Which ports running containers publish: pure, from dockerd's list of them."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field, TypeAdapter

Protocol = Literal["tcp", "udp"]
_LONGEST_NAME = 128


class Port(NamedTuple):
    """A port of the desktop."""

    proto: Protocol
    number: int

    def __str__(self) -> str:
        return f"{self.number}/{self.proto}"


class Holder(NamedTuple):
    """The container that publishes a port: its id, and its name for people."""

    id: str
    name: str


class _Binding(BaseModel):
    address: str = Field(default="", alias="IP")
    number: int = Field(default=0, alias="PublicPort", ge=0, le=65535)
    proto: str = Field(default="tcp", alias="Type")


class _Container(BaseModel):
    id: str = Field(alias="Id")
    names: list[str] | None = Field(default=None, alias="Names")
    ports: list[_Binding] | None = Field(default=None, alias="Ports")


_LIST = TypeAdapter(list[_Container])


def wanted(documents: Any) -> dict[Port, Holder]:
    """The published ports of IPv4, each with its container; which address the container asked for has no say.

    Args:
        documents: the answer of `GET /containers/json`.

    Raises:
        ValueError: it is not such an answer.
    """
    found: dict[Port, Holder] = {}
    for container in _LIST.validate_python(documents):
        holder = Holder(container.id, _name(container))
        for binding in container.ports or []:
            if binding.number and ":" not in binding.address and binding.proto in ("tcp", "udp"):
                found.setdefault(Port("tcp" if binding.proto == "tcp" else "udp", binding.number), holder)
    return found


def _name(container: _Container) -> str:
    # A legacy link adds `/OTHER/ALIAS` to the names: the container's own has one part.
    own = [name for name in container.names or [] if name.count("/") == 1]
    # The guest's word, shown on a terminal: nothing but what Docker allows in a name.
    return re.sub(r"[^a-zA-Z0-9_.-]", "?", own[0].removeprefix("/") if own else container.id[:12])[:_LONGEST_NAME]
