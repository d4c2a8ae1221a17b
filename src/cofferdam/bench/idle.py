"""What an idle VM takes, measured from outside, so that an image without ssh is measured as it is.

Memory: its kernel's own figures, told by the memory balloon. A container's view would do without the monitor, but takes 15 to 25
MiB itself. Processor: what QEMU used, by this machine's kernel.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Protocol

from cofferdam.bench.model import Figure
from cofferdam.errors import InstanceError
from cofferdam.machine.channels import Address
from cofferdam.machine.instance import Instance
from cofferdam.machine.qmp import Monitor

_SETTLE = 10.0
_ATTEMPTS = 40
_PAUSE = 0.5
_WATCHED = 30.0
_DEVICES = "/machine/peripheral-anon"
_MIB = 1 << 20


class Executes(Protocol):
    """The one thing that is needed of a monitor."""

    def execute(self, command: str, **arguments: object) -> Any:
        """Run a command; its answer."""


def idle_figures(instance: str) -> list[Figure]:
    """Memory and processor that a VM takes which was just booted and has run no container yet.

    Raises:
        InstanceError: it is not running, or its balloon tells nothing.
    """
    memory, busy = idle_values(*process_of(instance))
    return [
        Figure(name="memory used at idle (default image, fresh boot)", unit="MiB", value=memory, goal=150),
        Figure(name="processor used at idle (default image, fresh boot)", unit="% of one", value=busy),
    ]


def process_of(instance: str) -> tuple[int, Address]:
    """QEMU's process id and monitor of an instance.

    Raises:
        InstanceError: it is not running.
    """
    record = Instance(instance).record
    if record is None or record.pid is None:
        raise InstanceError(f"the instance `{instance}` is not running", hint="Run `inv bench` again.")
    return record.pid, Address.from_text(record.qmp)


def idle_values(process: int, monitor: Address) -> tuple[float, float]:
    """MiB of memory, and percent of one processor, that a VM takes which is left alone from now on for some time.

    Args:
        process: QEMU's.
        monitor: QEMU's, which nobody else may use meanwhile.

    Raises:
        InstanceError: it has ended, or its balloon tells nothing.
    """
    time.sleep(_SETTLE)
    # first: asking the balloon is work for the guest
    busy = processor_share(process, _WATCHED)
    with Monitor(monitor) as asked:
        return used_mib(guest_statistics(asked)), 100 * busy


def processor_share(process: int, seconds: float) -> float:
    """How much of one processor a process uses during so many seconds from now on, all its threads together.

    Raises:
        InstanceError: it has ended.
    """
    begun, before = time.monotonic(), processor_seconds(process)
    time.sleep(seconds)
    return (processor_seconds(process) - before) / (time.monotonic() - begun)


def processor_seconds(process: int) -> float:
    """Seconds that a process has used of all processors so far, in user and kernel mode.

    Raises:
        InstanceError: there is no such process.
    """
    try:
        text = Path("/proc", str(process), "stat").read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise InstanceError("the virtual machine has ended while it was idle", hint="See `inv logs --name bench`.") from error
    # the name in parentheses may hold anything; behind it, utime and stime are fields 14 and 15 of proc_pid_stat(5)
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def guest_statistics(monitor: Executes) -> dict[str, int]:
    """The balloon's statistics, in bytes, asked for now.

    Raises:
        InstanceError: no balloon, or no answer of the guest.
    """
    rows = monitor.execute("qom-list", path=_DEVICES)
    names = [row["name"] for row in rows if row["type"].startswith("child<virtio-balloon")]
    if not names:
        raise InstanceError("the virtual machine has no memory balloon", hint="See src/cofferdam/machine/cmdline.py.")
    path = f"{_DEVICES}/{names[0]}"
    # The guest's driver has told its figures once, when it started: those are old by now.
    old = monitor.execute("qom-get", path=path, property="guest-stats")["last-update"]
    monitor.execute("qom-set", path=path, property="guest-stats-polling-interval", value=1)
    try:
        for _ in range(_ATTEMPTS):
            found = monitor.execute("qom-get", path=path, property="guest-stats")
            if found["last-update"] > old:
                return dict(found["stats"])
            time.sleep(_PAUSE)
    finally:
        monitor.execute("qom-set", path=path, property="guest-stats-polling-interval", value=0)
    raise InstanceError("the guest's memory balloon tells nothing", hint="Its kernel needs CONFIG_VIRTIO_BALLOON.")


def used_mib(statistics: dict[str, int]) -> float:
    """MiB that are neither free nor can be made free without swapping: /proc/meminfo's MemTotal less MemAvailable."""
    return (statistics["stat-total-memory"] - statistics["stat-available-memory"]) / _MIB
