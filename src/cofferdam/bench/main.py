"""`inv bench`: every figure of one run, on one machine and accelerator, against its peer in turn."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cofferdam.bench.client import Client, client_of
from cofferdam.bench.containers import add_stock_runtime, start_times, throughput
from cofferdam.bench.everyday import measure_everyday, measure_own_kernel, our_side, stock_side
from cofferdam.bench.idle import idle_figures
from cofferdam.bench.image import IMAGE, python_image
from cofferdam.bench.model import Figure, Pair, Report
from cofferdam.bench.ports import measure_ports
from cofferdam.bench.proxy import measure_proxy
from cofferdam.bench.shares import measure_shares
from cofferdam.bench.stock import stock_debian
from cofferdam.bench.stockvm import Machine, stock_vm, words_for_tests
from cofferdam.bench.transports import measure_transports
from cofferdam.errors import CofferdamError, InstanceError
from cofferdam.image.build import build_vm
from cofferdam.image.model import Image
from cofferdam.machine import api
from cofferdam.machine.settings import BootSettings
from cofferdam.profile import load_profile
from cofferdam.progress import Progress
from cofferdam.tools.tree import ToolsTree, ensure_tools

INSTANCE = "bench"
_BOOTS = 3
"""Figures of each side that count, at most, where one takes minutes on an emulated processor: boots, and files by 9p."""
_RUNC = ("usr/bin/runc", "usr/sbin/runc")


def run_bench(runs: int, progress: Progress) -> Report:
    """Boot the default and then the debug profile on an instance of its own, measure, stop and remove it.

    Args:
        runs: figures of each side that count.
        progress: where progress goes.
    """
    tools = ensure_tools(progress)
    image = build_vm(load_profile("debug"), progress)
    release = build_vm(load_profile("default"), progress)
    layer = python_image(progress)
    idle = _idle(release, progress)
    with tempfile.TemporaryDirectory(prefix="cofferdam-share-") as share:
        settings = BootSettings(name=INSTANCE, profile="debug", activate=False, shares=(share,))
        report = api.boot(settings, progress, image)
        try:
            client = client_of(report, tools, image)
            pairs, figures = _measure(client, report.accelerator, tools, layer, Path(share), runs, progress)
        finally:
            _remove()
    words = words_for_tests(image.cmdline, release.cmdline)
    machine = Machine(report.accelerator, settings.cpus, settings.memory, words, image.kernel)
    pairs += _beside_debian(image, machine, tools, layer, runs, progress)
    return Report(
        machine=f"{_cpu()}, {os.cpu_count()} cores",
        accelerator=report.accelerator,
        kernel=report.kernel,
        taken=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        runs=runs,
        pairs=pairs,
        figures=[*_sizes(release), *idle, *figures],
    )


def _remove() -> None:
    # what failed before must not be hidden by an instance that is gone already
    with contextlib.suppress(InstanceError):
        api.stop(INSTANCE)
        api.remove(INSTANCE)


def _measure(
    client: Client, accelerator: str, tools: ToolsTree, layer: Path, share: Path, runs: int, progress: Progress
) -> tuple[list[Pair], list[Figure]]:
    try:
        with progress.stage("bench image"):
            client.docker("import", str(layer), IMAGE)
            runc = next(path for path in (tools.path / name for name in _RUNC) if path.exists())
            add_stock_runtime(client, runc)
        with client.direct() as direct:
            with progress.stage("bench start"):
                starts = start_times(direct, IMAGE, runs)
            with progress.stage("bench inside"):
                inside = throughput(direct, IMAGE, runs)
        with progress.stage("bench proxy"):
            pairs, figures = measure_proxy(client, IMAGE, runs, accelerator)
        with progress.stage("bench shares"):
            shared = measure_shares(client, IMAGE, share, runs, accelerator)
        with progress.stage("bench ports"):
            published = measure_ports(client, IMAGE, runs, accelerator)
        return [starts, *inside, *shared, *published, *pairs], figures
    finally:
        shutil.rmtree(client.config, ignore_errors=True)


def _idle(release: Image, progress: Progress) -> list[Figure]:
    with progress.stage("bench idle"):
        try:
            api.boot(BootSettings(name=INSTANCE, profile="default", activate=False), Progress(quiet=True), release)
            return idle_figures(INSTANCE)
        finally:
            _remove()


def _sizes(image: Image) -> list[Figure]:
    return [
        Figure(name="root image", unit="MB", value=image.root.stat().st_size / 1e6, goal=150),
        Figure(name="kernel", unit="MB", value=image.kernel.stat().st_size / 1e6, goal=8),
    ]


def _beside_debian(image: Image, machine: Machine, tools: ToolsTree, layer: Path, runs: int, progress: Progress) -> list[Pair]:
    """Boots of ours and of the stock Debian, which is then also where virtiofs is compared with 9p."""
    stock = stock_debian(tools, progress)
    settings = BootSettings(name=INSTANCE, profile="debug", activate=False, cpus=machine.cpus, memory=machine.memory)
    debian = replace(machine, kernel=stock.kernel, initrd=stock.initrd)
    runs = min(runs, _BOOTS)
    with stock_vm(stock, machine, layer, tools) as vm:
        with progress.stage("bench everyday"), our_side(settings, image, tools, layer) as ours:
            pairs = measure_everyday(ours, stock_side(vm, machine), runs, machine.accelerator)
            pairs += _if_it_boots(lambda: measure_own_kernel(ours, stock_side(vm, debian), runs), "Debian's own kernel", progress)
        with progress.stage("bench 9p"):
            return pairs + _if_it_boots(lambda: measure_transports(vm, debian, runs, progress), "9p", progress)


def _if_it_boots(measure: Callable[[], list[Pair]], what: str, progress: Progress) -> list[Pair]:
    """Rows that need a boot of Debian's own kernel; none, with a line of progress, when it fails twice.

    Under emulation it was seen to panic in its first seconds. What half an hour has measured is not thrown away for that.
    """
    for left in (1, 0):
        try:
            return measure()
        except CofferdamError as error:
            progress.step(f"{'once more' if left else f'not compared with {what}'}: {error}")
    return []


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    name: Callable[[str], str] = lambda line: line.partition(":")[2].strip()  # noqa: E731
    return next((name(line) for line in lines if line.startswith("model name")), platform.processor() or platform.machine())
