"""What the keeper tells of published ports, in a file of the instance: written by it, read by `status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from cofferdam.machine.hostos import write_json
from cofferdam.machine.instance import Instance
from cofferdam.machine.ports.wanted import Holder, Port, Protocol


class Row(BaseModel):
    """One published port. `reason` says why it is refused."""

    proto: Protocol
    host_port: int
    container: str
    state: Literal["open", "refused"]
    reason: str = ""

    @property
    def note(self) -> str:
        """For people, with the next step."""
        step = f"choose another port, such as -p OTHER:{self.host_port}, or stop what uses it"
        return f"container {self.container} is not reachable there: {self.reason}; {step}"


class Published(BaseModel):
    """All of them, by number; `problem` says why the list may be old.

    Attributes:
        socket: path of Docker's socket on the desktop; empty when none is wanted.
        socket_problem: why it is not there; empty when it is.
    """

    ports: list[Row] = Field(default_factory=list)
    problem: str = ""
    socket: str = ""
    socket_problem: str = ""

    @property
    def notes(self) -> list[str]:
        """What is not as it should be."""
        problems = [f"published ports may be out of date: {self.problem}"] if self.problem else []
        problems += [f"Docker's socket {self.socket} is not there: {self.socket_problem}"] if self.socket_problem else []
        return problems + [row.note for row in self.ports if row.state == "refused"]


def summary(wanted: Mapping[Port, Holder], refused: Mapping[Port, str], problem: str = "") -> Published:
    """The file's content from what is wanted and what of it is refused, with the reasons."""
    rows = [
        Row(
            proto=port.proto,
            host_port=port.number,
            container=holder.name,
            state="refused" if port in refused else "open",
            reason=refused.get(port, ""),
        )
        for port, holder in sorted(wanted.items(), key=lambda item: (item[0].number, item[0].proto))
    ]
    return Published(ports=rows, problem=problem)


def write(instance: Instance, content: Published) -> None:
    """Replace the instance's file."""
    write_json(instance.published, content.model_dump())


def read(instance: Instance) -> Published | None:
    """The file's content; none when there is none, or it cannot be read."""
    try:
        return Published.model_validate_json(instance.published.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
