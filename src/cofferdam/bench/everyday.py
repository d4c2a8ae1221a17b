"""What a day with it begins with and rests on, beside the stock Debian: cold boots, in turn, and what each of them is worth.

One fresh boot of a side gives a figure of every row: how long until Docker answers and until a first container has run, what the
VM takes when it is left alone, and what a published port carries to the desktop.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cofferdam.bench import ports
from cofferdam.bench.client import Client, client_of
from cofferdam.bench.idle import idle_values, process_of
from cofferdam.bench.image import IMAGE
from cofferdam.bench.model import Pair, in_turn
from cofferdam.bench.proxy import Row, Scale, scale
from cofferdam.bench.stockvm import Machine, StockVm
from cofferdam.errors import InstanceError
from cofferdam.image.model import Image
from cofferdam.machine import api
from cofferdam.machine.channels import Address
from cofferdam.machine.settings import BootSettings
from cofferdam.progress import Progress
from cofferdam.tools.tree import ToolsTree

PEER = "stock Debian 13"
READY = Row("power-on to Docker ready", "s", "less", (), 1 / 3)
OWN_KERNEL = Row("power-on to Docker ready, the peer with Debian's kernel and initramfs", "s", "less", ())
FIRST_RUN = Row("cold boot to first docker run finished", "s", "less", ())
MEMORY = Row("memory used at idle", "MiB", "less", ())
PROCESSOR = Row("processor used at idle", "% of one", "less", ())

Figures = dict[str, float]
"""A row's name -> its figure, of one boot."""


@dataclass(frozen=True)
class Booted:
    """A side that was just booted.

    Attributes:
        client: for its Docker.
        begun: when the boot was asked for, by `time.perf_counter`.
        ready: seconds from power-on until Docker was up.
        process: QEMU's.
        monitor: QEMU's.
        accelerator: QEMU's.
        forwarded: this machine's port that leads to a published one; empty where that is asked of Docker.
    """

    client: Client
    begun: float
    ready: float
    process: int
    monitor: Address
    accelerator: str
    forwarded: str = ""


Side = Callable[[Callable[[Booted], Figures]], Figures]
"""Boots, measures as it is told, and stops."""


def table(size: Scale) -> list[Row]:
    """Every row that compares the two machines."""
    return [READY, FIRST_RUN, MEMORY, PROCESSOR, *ports.table(size)]


def measure_everyday(ours: Side, peer: Side, runs: int, accelerator: str) -> list[Pair]:
    """All rows of so many boots of each side that count."""
    return pairs(*in_turn(lambda: ours(figures), lambda: peer(figures), runs), table(scale(accelerator)))


def measure_own_kernel(ours: Side, peer: Side, runs: int) -> list[Pair]:
    """How long both take until Docker is up, the peer with all that a Debian as installed boots with."""

    def ready(vm: Booted) -> Figures:
        return {OWN_KERNEL.name: vm.ready}

    return pairs(*in_turn(lambda: ours(ready), lambda: peer(ready), runs), [OWN_KERNEL])


def pairs(ours: list[Figures], peer: list[Figures], rows: list[Row]) -> list[Pair]:
    """The rows' pairs from the figures of each boot."""
    series = [([boot[row.name] for boot in ours], [boot[row.name] for boot in peer], row) for row in rows]
    return [
        Pair(name=row.name, unit=row.unit, peer_name=PEER, ours=one, peer=other, better=row.better, goal=row.goal)
        for one, other, row in series
    ]


def figures(vm: Booted) -> Figures:
    """What one boot is worth."""
    vm.client.docker("run", "--rm", IMAGE, "true")
    found = {READY.name: vm.ready, FIRST_RUN.name: time.perf_counter() - vm.begun}
    found[MEMORY.name], found[PROCESSOR.name] = idle_values(vm.process, vm.monitor)
    with ports.serving(vm.client, IMAGE, vm.forwarded) as published:
        for row in ports.table(scale(vm.accelerator)):
            # one that does not count: the first answers come from code that was never run
            ports.from_desktop(row, published)
            found[row.name] = ports.from_desktop(row, published)
    return found


@contextmanager
def our_side(settings: BootSettings, image: Image, tools: ToolsTree, layer: Path) -> Iterator[Side]:
    """Ours, booted once for the image of the bench; its instance lives as long as the block.

    Args:
        settings: of every boot.
        image: what is booted; it has ssh.
        tools: the tree with a docker program, for machines that have none.
        layer: the bench's image, a tar.
    """

    @contextmanager
    def powered_on() -> Iterator[Booted]:
        begun = time.perf_counter()
        report = api.boot(settings, Progress(quiet=True), image)
        client = client_of(report, tools, image)
        try:
            yield Booted(client, begun, report.seconds["docker"], *process_of(settings.name), report.accelerator)
        finally:
            shutil.rmtree(client.config, ignore_errors=True)
            api.stop(settings.name)

    def once(measure: Callable[[Booted], Figures]) -> Figures:
        with powered_on() as vm:
            return measure(vm)

    try:
        with powered_on() as vm:
            vm.client.docker("import", str(layer), IMAGE)
        yield once
    finally:
        # what failed before must not be hidden by an instance that is not there
        with contextlib.suppress(InstanceError):
            api.remove(settings.name)


def stock_side(vm: StockVm, machine: Machine) -> Side:
    """The stock Debian's."""

    def once(measure: Callable[[Booted], Figures]) -> Figures:
        begun = time.perf_counter()
        with vm.powered_on(machine) as process:
            ready = time.perf_counter() - begun
            return measure(Booted(vm.client, begun, ready, process.pid, vm.monitor, machine.accelerator, str(vm.published)))

    return once
