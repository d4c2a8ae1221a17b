"""Where the time of a boot went: its stages on the host's time line, and how much each of them put off the end."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from typing import Any

from cofferdam.errors import InstanceError
from cofferdam.machine.channels import Address, connect
from cofferdam.machine.events import ASK_UNITS, Event, EventStream
from cofferdam.machine.instance import Instance, Record

# Stage -> the unit that it is. Other units of the guest are not looked at: it is not trusted with names.
UNITS = {
    "data disk": "cofferdam-data.service",
    "policy": "cofferdam-policy.service",
    "firewall": "cofferdam-firewall.service",
    "containerd": "containerd.service",
    "dockerd": "docker.service",
    "proxy": "cofferdam-apiproxy.service",
}
_PHASE_NAMES = {"heartbeat": "kernel", "userspace": "user space", "docker": "ready"}
_LONGEST = 86400.0
_PATIENCE = 15.0
_ROW = "{:<12} {:>8} {:>8} {:>8}"


@dataclass(frozen=True)
class Stage:
    """One stage; all figures are seconds, the first two after power-on.

    Attributes:
        adds: how much later than the stage that ended before it this one ended; over all stages that is the whole boot.
    """

    name: str
    start: float
    end: float
    adds: float


@dataclass(frozen=True)
class Timings:
    """The boot of a running instance; `ready` in seconds after power-on, `started` in UTC (ISO 8601)."""

    instance: str
    profile: str
    accelerator: str
    started: str
    ready: float
    stages: tuple[Stage, ...]
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The stages as a table, in the order in which they ended."""
        rows = [_ROW.format(s.name, f"{s.start:.2f}", f"{s.end:.2f}", f"{s.adds:.2f}") for s in self.stages]
        lines = [_ROW.format("stage", "begins", "ends", "adds"), *rows, f"ready        {self.ready:.2f} s after power-on"]
        return [*lines, f"note         {self.note}"] if self.note else lines


def read_timings(instance: Instance) -> Timings:
    """Timings of a running instance: the phases that its boot noted, and what its guest says of the units.

    Raises:
        InstanceError: it does not run, or its boot has not ended.
    """
    record = instance.record
    if record is None or not record.ready or not instance.alive:
        hint = f"Boot it: `inv boot{instance.option} --timings`."
        raise InstanceError(f"instance `{instance.name}` is not running, and the times of a boot go with it", hint=hint)
    events = ask(record)
    note = "" if "units" in events else "the guest did not tell its units: it is held, or of an older image"
    return Timings(
        instance=instance.name,
        profile=record.profile,
        accelerator=record.accelerator,
        started=record.started,
        ready=record.seconds.get("docker", 0.0),
        stages=stages(record.seconds, events),
        note=note,
    )


def ask(record: Record, patience: float = _PATIENCE) -> dict[str, Event]:
    """Ask a guest's agent for its units, for `patience` seconds; kind -> first event of it, those of the boot among them."""
    found: dict[str, Event] = {}
    stream, deadline = EventStream(), time.monotonic() + patience
    with contextlib.suppress(OSError), connect(Address.from_text(record.ready_port), patience) as port:
        port.sendall(ASK_UNITS)
        while "units" not in found and (left := deadline - time.monotonic()) > 0:
            port.settimeout(left)
            data = port.recv(65536)
            if not data:
                break
            for event in stream.feed(data):
                found.setdefault(event.kind, event)
    return found


def stages(seconds: dict[str, float], events: dict[str, Event]) -> tuple[Stage, ...]:
    """The stages of a boot in the order in which they ended.

    Args:
        seconds: phase -> seconds after power-on, by the host's clock.
        events: what the guest has told since its kernel's start, by its own clock.
    """
    ready = seconds.get("docker", 0.0)
    spans = _units(seconds, events) | _phases(seconds, events)
    # What began after the boot has been restarted since.
    kept = {name: (start, min(end, ready)) for name, (start, end) in spans.items() if 0 <= start <= min(end, ready)}
    found, last = [], 0.0
    for name, (start, end) in sorted(kept.items(), key=lambda item: item[1][1]):
        found.append(Stage(name, round(start, 2), round(end, 2), round(max(0.0, end - last), 2)))
        last = max(last, end)
    return tuple(found)


def _kernel_start(seconds: dict[str, float], events: dict[str, Event]) -> float:
    """When the kernel started, in seconds after power-on: the guest's first message has both clocks on it."""
    first = events.get("heartbeat")
    return max(0.0, seconds["heartbeat"] - first.uptime) if first and "heartbeat" in seconds else 0.0


def _phases(seconds: dict[str, float], events: dict[str, Event]) -> dict[str, tuple[float, float]]:
    kernel = _kernel_start(seconds, events)
    spans = {"firmware": (0.0, kernel)} if kernel else {}
    start = kernel
    for phase, name in _PHASE_NAMES.items():
        if phase in seconds:
            spans[name] = (start, seconds[phase])
            start = seconds[phase]
    if "docker" in events and "ready" in spans:
        # Between what the guest says and what the host hears; before that the units tell more.
        spans["ready"] = (min(kernel + events["docker"].uptime, seconds["docker"]), seconds["docker"])
    return spans


def _units(seconds: dict[str, float], events: dict[str, Event]) -> dict[str, tuple[float, float]]:
    told = events["units"].data.get("units") if "units" in events else None
    if not isinstance(told, dict):
        return {}
    kernel = _kernel_start(seconds, events)
    pairs = {stage: _pair(told.get(unit)) for stage, unit in UNITS.items()}
    return {stage: (kernel + pair[0], kernel + pair[1]) for stage, pair in pairs.items() if pair}


def _pair(value: object) -> tuple[float, float] | None:
    """Two times of the guest; none when they are no times."""
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(item, int | float) for item in value):
        return None
    return (value[0], value[1]) if all(0 <= item < _LONGEST for item in value) else None
