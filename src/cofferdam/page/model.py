"""What the page shows: plain values, and the interface of whoever has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from cofferdam.machine.denied import Denied


@dataclass(frozen=True)
class IdRange:
    """The ids of the machine that a container's ids 0, 1, … are."""

    first: int
    size: int


@dataclass(frozen=True)
class Container:
    """One container; `ids` only while it runs."""

    name: str
    image: str
    state: str
    ids: IdRange | None = None


@dataclass(frozen=True)
class Engine:
    """What dockerd tells.

    Attributes:
        containers: all of them, in dockerd's order.
        policy: hash of the policy in force, by the machine's own word; empty when it is not known.
        refuses_all: why everything is refused, if so.
        problem: why the rest is out of date, if so.
    """

    containers: tuple[Container, ...] = ()
    policy: str = ""
    refuses_all: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Policy:
    """The effective policy: its hash, its values where they are known, and what else there is to say."""

    sha256: str = ""
    values: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """Everything on the page.

    Attributes:
        name: of the instance.
        alive: whether its machine runs; the page ends when it does not.
        facts: what it is and how to reach it: name, value.
        denied: the latest refusals, newest first.
    """

    name: str
    alive: bool
    facts: tuple[tuple[str, str], ...] = ()
    engine: Engine = field(default_factory=Engine)
    policy: Policy = field(default_factory=Policy)
    denied: tuple[Denied, ...] = ()


class Source(Protocol):
    """Whoever knows what the page shows."""

    def view(self) -> View:
        """The present state; called some times a second, in a thread of its own."""
