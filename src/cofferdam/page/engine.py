"""dockerd's part of the page: its containers with their id ranges, asked for anew after each of its events."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import docker
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from cofferdam.machine.console import clean
from cofferdam.machine.door import Door, connect
from cofferdam.machine.ports.watch import Unreachable, start_following
from cofferdam.page.model import Container, Engine, IdRange

MOST = 500
_SECONDS = 20
# A start is several events, and each look costs the machine something.
_SETTLE, _RETRY = 0.5, 3.0
_LONGEST = 300
_ACTIONS = ["create", "start", "die", "destroy", "rename", "pause", "unpause"]
_EVENTS = {"type": ["container"], "event": _ACTIONS}
_HAVE_IDS = ("running", "paused")
_POLICY = re.compile(r"^name=cofferdam,.*\bpolicy=sha256:([0-9a-f]{64})")
_EXITED = re.compile(r"Exited \((\d+)\)")
_REFUSES_ALL = "WARNING: everything is refused"


class _Range(BaseModel):
    first: int = Field(alias="First", ge=1, lt=1 << 32)
    size: int = Field(alias="Size", ge=1, lt=1 << 32)


class _Isolation(BaseModel):
    ids: _Range = Field(alias="IdRange")


class _Inspected(BaseModel):
    isolation: _Isolation = Field(alias="Cofferdam")


class _Row(BaseModel):
    id: str = Field(alias="Id")
    names: list[str] | None = Field(default=None, alias="Names")
    image: str = Field(default="", alias="Image")
    state: str = Field(default="", alias="State")
    status: str = Field(default="", alias="Status")


_LIST = TypeAdapter(list[_Row])


class _Info(BaseModel):
    options: list[str] | None = Field(default=None, alias="SecurityOptions")
    warnings: list[str] | None = Field(default=None, alias="Warnings")


def text(value: object) -> str:
    """A word of the machine as one short line without control characters: it is not trusted."""
    return " ".join(clean(str(value)[:_LONGEST]).split())


def container(row: _Row, inspected: Any) -> Container:
    """One container from its row of the list and the answer to its inspect, which may be missing."""
    # A legacy link adds `/OTHER/ALIAS` to the names.
    own = [name for name in row.names or [] if name.count("/") == 1]
    try:
        ids = _Inspected.model_validate(inspected).isolation.ids
        found = IdRange(ids.first, ids.size)
    except ValidationError:
        found = None
    name = own[0].removeprefix("/") if own else row.id[:12]
    # Not the rest of the status: `Up 3 minutes` would be wrong a minute later.
    ended = _EXITED.match(row.status)
    return Container(text(name), text(row.image), text(f"{row.state} ({ended[1]})" if ended else row.state), found)


def engine(info: Any, rows: Sequence[_Row], inspected: Mapping[str, Any]) -> Engine:
    """The engine from dockerd's answers. Raises ValueError: they are none."""
    told = _Info.model_validate(info)
    hashes = [match[1] for option in told.options or [] if (match := _POLICY.match(option))]
    refusing = [text(warning) for warning in told.warnings or [] if warning.startswith(_REFUSES_ALL)]
    shown = tuple(container(row, inspected.get(row.id)) for row in rows[:MOST])
    problem = f"{len(rows)} containers; the first {MOST} are shown" if len(rows) > MOST else ""
    return Engine(shown, hashes[0] if hashes else "", refusing[0] if refusing else "", problem)


def read(client: docker.DockerClient, info: Any) -> Engine:
    """Ask dockerd. Raises one of `Unreachable`."""
    rows = _LIST.validate_python(client.api.containers(all=True))
    inspected = {}
    for row in rows[:MOST]:
        if row.state in _HAVE_IDS:
            try:
                inspected[row.id] = client.api.inspect_container(row.id)
            except docker.errors.NotFound:
                # It has gone meanwhile; the next event tells.
                continue
    return engine(info, rows, inspected)


class EngineWatch:
    """The engine of a running instance, kept up to date by threads that do not keep the process alive.

    Args:
        door: of its Docker API.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._changed = threading.Event()
        self._changed.set()
        self.latest = Engine(problem="Docker has not answered yet")
        start_following(door, self._changed.set, _EVENTS)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._changed.wait()
            try:
                self._serve()
            except Unreachable as error:
                problem = f"Docker does not answer ({type(error).__name__}); this is what it said last"
                self.latest = Engine(self.latest.containers, self.latest.policy, self.latest.refuses_all, problem)
            time.sleep(_RETRY)

    def _serve(self) -> None:
        """Over one connection, since a handshake is most of what a short request costs the machine."""
        client = connect(self._door, _SECONDS)
        try:
            info = client.api.info()
            while True:
                # Events that come while dockerd is asked are one further round.
                self._changed.clear()
                self.latest = read(client, info)
                self._changed.wait()
                time.sleep(_SETTLE)
        finally:
            self._changed.set()
            client.close()
