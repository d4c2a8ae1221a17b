"""What a published port costs: from the desktop through QEMU to a container, against the way to it inside the VM, in turn."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cofferdam.bench import portprobe
from cofferdam.bench.client import Client
from cofferdam.bench.model import Pair, in_turn
from cofferdam.bench.proxy import Row, Scale, scale
from cofferdam.bench.workloads import SERVING
from cofferdam.errors import InstanceError
from cofferdam.machine.channels import LOOPBACK
from cofferdam.machine.hostos import wait_until

_PEER = "in the VM"
_CONTAINER = "bench-port"
PORT = "8000"
"""Where a container's server listens."""
_READY_SECONDS = 120.0


def table(size: Scale) -> list[Row]:
    """Every row that compares the two ways."""
    return [
        Row("published port: stream", "MiB/s", "more", ("stream", str(size.mib))),
        Row("published port: round trip", "ms", "less", ("round trip", str(size.requests))),
        Row("published port: new connection", "ms", "less", ("connection", str(size.requests // 4))),
    ]


def measure_ports(client: Client, image: str, runs: int, accelerator: str) -> list[Pair]:
    """Throughput, round trips and connections of one published port.

    Args:
        client: of a booted debug image.
        image: has Python, and is in the VM.
        runs: figures of each side that count.
        accelerator: that of the VM.

    Raises:
        InstanceError: the port does not appear on the desktop.
    """
    with serving(client, image) as published:
        address = client.docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", _CONTAINER).stdout.strip()
        return [_pair(client, row, published, address, runs) for row in table(scale(accelerator))]


@contextmanager
def serving(client: Client, image: str, forwarded: str = "") -> Iterator[str]:
    """A container whose port is published, for the length of the block, which gets the port on the desktop.

    Args:
        client: of the VM.
        image: has Python, and is in the VM.
        forwarded: the desktop's port that leads to `PORT` of a VM which publishes nothing there by itself.

    Raises:
        InstanceError: the port does not appear on the desktop.
    """
    server = SERVING.replace("PORT", PORT)
    publish = f"{PORT}:{PORT}" if forwarded else PORT
    client.docker("run", "-d", "--name", _CONTAINER, "-p", publish, image, "python3", "-c", server)
    try:
        published = forwarded or published_port(client.docker("port", _CONTAINER, PORT).stdout)
        if not wait_until(lambda: answers(published), _READY_SECONDS):
            raise InstanceError(
                f"port {published} of a container does not appear on {LOOPBACK}",
                hint="See `inv logs --name bench` and docs/ports.md.",
            )
        yield published
    finally:
        client.docker("rm", "-f", _CONTAINER)


def from_desktop(row: Row, published: str) -> float:
    """A row's figure from the desktop, in the row's unit."""
    name, argument = row.workload
    return portprobe.WORKLOADS[name](LOOPBACK, published, argument)


def published_port(text: str) -> str:
    """The port in what `docker port` says: a line `0.0.0.0:32768` for each address, one port for all of them."""
    return text.split()[0].rpartition(":")[2]


def answers(port: str) -> bool:
    """Whether the server behind a port of this machine's loopback answers."""
    try:
        portprobe.connection(LOOPBACK, port, "1")
    except (OSError, ValueError):
        return False
    return True


def _pair(client: Client, row: Row, published: str, address: str, runs: int) -> Pair:
    name, argument = row.workload

    def peer() -> float:
        words = shlex.join(["python3", "-IS", "-", address, PORT, name, argument])
        return float(json.loads(client.shell(words, input=Path(portprobe.__file__).read_bytes())))

    series = in_turn(lambda: from_desktop(row, published), peer, runs)
    return Pair(name=row.name, unit=row.unit, peer_name=_PEER, ours=series[0], peer=series[1], better=row.better, goal=row.goal)
