"""What the API proxy costs: its socket in the VM against dockerd's own, in turn, by one small client inside the VM."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cofferdam.bench.client import ENGINE, PROXY, Client
from cofferdam.bench.model import EMULATION, Figure, Pair, in_turn
from cofferdam.bench.workloads import ANSWERING

_PROBE = Path(__file__).with_name("probe.py")
_PEER = "dockerd's socket"
_ATTACHED = "bench-attach"
_UNIT = "cofferdam-apiproxy.service"
_STREAMS = 1000
_STREAM_GOAL = 0.9
_ADDED_GOAL = 3.0


@dataclass(frozen=True)
class Scale:
    """How much of each workload is enough to be measured: requests, MiB of a stream, and files of a tree."""

    requests: int
    mib: int
    files: int


def scale(accelerator: str) -> Scale:
    """Less where the processor is emulated, and every request takes tens of milliseconds."""
    return Scale(200, 32, 2_000) if accelerator == EMULATION else Scale(4000, 128, 10_000)


@dataclass(frozen=True)
class Row:
    """A row of the table: the workload of the probe and its arguments."""

    name: str
    unit: str
    better: Literal["less", "more"]
    workload: tuple[str, ...]
    goal: float | None = None


def table(size: Scale, image: str) -> list[Row]:
    """Every row that compares the two sockets."""
    requests, mib = str(size.requests), str(size.mib)
    return [
        Row("proxy: GET /_ping, 8 connections", "1/s", "more", ("rate", "/_ping", requests, "8")),
        Row("proxy: GET /containers/json, 8 connections", "1/s", "more", ("rate", "/containers/json", requests, "8")),
        Row("proxy: GET /_ping", "ms", "less", ("latency", "/_ping", requests)),
        Row("proxy: GET /containers/json", "ms", "less", ("latency", "/containers/json", requests)),
        Row("proxy: create + start", "s", "less", ("start", image)),
        Row("proxy: attach stream", "MiB/s", "more", ("attach", _ATTACHED, mib), _STREAM_GOAL),
        Row("proxy: image load", "MiB/s", "more", ("load", mib, "counted"), _STREAM_GOAL),
        Row("proxy: image load in chunks", "MiB/s", "more", ("load", mib, "chunked"), _STREAM_GOAL),
        Row("proxy: build context", "MiB/s", "more", ("context", mib), _STREAM_GOAL),
    ]


def added(pair: Pair) -> Figure:
    """What the proxy adds to a request: the median difference of a latency's pairs."""
    value = statistics.median(ours - peer for ours, peer in zip(pair.ours, pair.peer, strict=True))
    name = pair.name.replace("proxy: ", "proxy: added to ")
    return Figure(name=name, unit=pair.unit, value=value, goal=_ADDED_GOAL, where="bare metal")


def measure_proxy(client: Client, image: str, runs: int, accelerator: str) -> tuple[list[Pair], list[Figure]]:
    """Everything about the proxy.

    Args:
        client: of a booted debug image.
        image: has Python, and is in the VM.
        runs: figures of each side that count.
        accelerator: that of the VM.
    """
    size = scale(accelerator)
    # first: a process rarely gives memory back, and the other rows would be in it
    memory = _memory(client)
    script = ANSWERING.replace("MIB", str(size.mib))
    # without a log: that of dockerd writes each line as JSON, and hides the stream's own speed
    options = ("-d", "-i", "--network", "none", "--log-driver", "none", "--name", _ATTACHED)
    client.docker("run", *options, image, "python3", "-c", script)
    try:
        pairs = [_pair(client, row, runs) for row in table(size, image)]
    finally:
        client.docker("rm", "-f", _ATTACHED)
    return pairs, [*(added(pair) for pair in pairs if pair.unit == "ms"), *memory]


def _pair(client: Client, row: Row, runs: int) -> Pair:
    def once(socket: str) -> float:
        return float(probe(client, socket, row.workload))

    ours, peer = in_turn(lambda: once(PROXY), lambda: once(ENGINE), runs)
    return Pair(name=row.name, unit=row.unit, peer_name=_PEER, ours=ours, peer=peer, better=row.better, goal=row.goal)


def _memory(client: Client) -> list[Figure]:
    before, during = probe(client, PROXY, ("streams", _UNIT, str(_STREAMS)))
    return [
        Figure(name="proxy: memory (PSS)", unit="MiB", value=before),
        Figure(name=f"proxy: memory (PSS), {_STREAMS} open streams of events", unit="MiB", value=during),
    ]


def probe(client: Client, socket: str, workload: Sequence[str]) -> Any:
    """What the probe says of one workload on one socket; see `cofferdam.bench.probe`."""
    words = shlex.join(["python3", "-IS", "-", socket, *workload])
    return json.loads(client.shell(words, input=_PROBE.read_bytes()))
