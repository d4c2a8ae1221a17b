"""The peer of the boot figures: a stock Debian 13 root with docker.io and systemd as they come, on our kernel and machine.

It boots from a writable ext4 image, waits for the network as Debian's units do, and tells the console when docker.service is up.
Its very first boot, in which Debian's units and dockerd write what later boots find, does not count: ours has its disk by then
as well. Our kernel spares it the initramfs and the modules of a real Debian, so the peer is rather faster than it would be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cofferdam.bench.model import EMULATION
from cofferdam.cache import Stage, digest
from cofferdam.errors import BootError
from cofferdam.image.model import Image
from cofferdam.machine.facts import probe_host
from cofferdam.machine.hostos import wait_until
from cofferdam.progress import Progress
from cofferdam.run import Process, run, spawn
from cofferdam.tools.bootstrap import bootstrap
from cofferdam.tools.tree import ToolsTree

SUITE = "trixie"
_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "docker.io",
    "iptables",
    "iproute2",
    "systemd-resolved",
    "kmod",
    "ca-certificates",
    "apparmor",
)
_READY = "COFFERDAM-BENCH-DOCKER-READY"
_UNIT = "\\n".join(
    [
        "[Unit]",
        "After=docker.service",
        "[Service]",
        "Type=oneshot",
        f'ExecStart=/bin/sh -c "echo {_READY} >/dev/console"',
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
)
# For the first boot: off again once Docker is up.
_FIRST = "bench.first"
_OFF = "\\n".join(
    [
        "[Unit]",
        f"ConditionKernelCommandLine={_FIRST}",
        "After=bench-ready.service",
        "[Service]",
        "Type=oneshot",
        "ExecStart=/usr/bin/systemctl --no-block poweroff",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
)
_NETWORK = "[Match]\\nName=e*\\n[Network]\\nDHCP=yes\\n"
_HOOKS = (
    f"printf '{_UNIT}' >\"$1/etc/systemd/system/bench-ready.service\"",
    f"printf '{_OFF}' >\"$1/etc/systemd/system/bench-off.service\"",
    f"printf '{_NETWORK}' >\"$1/etc/systemd/network/80-dhcp.network\"",
    "printf '/dev/vda / ext4 defaults 0 1\\n' >\"$1/etc/fstab\"",
    'chroot "$1" systemctl enable bench-ready bench-off systemd-networkd systemd-networkd-wait-online docker',
)
_TIMEOUT = 400.0


def stock_root(tools: ToolsTree, progress: Progress) -> Path:
    """The stock root as an ext4 image, cached; its size on disk is what it holds."""
    stage = Stage("bench-stock", digest([SUITE, _PACKAGES, _HOOKS, tools.key, 2]))

    def make(work: Path, log: Path) -> None:
        tar = work / "root.tar"
        bootstrap(SUITE, tar, log, variant="minbase", packages=_PACKAGES, hooks=_HOOKS)
        (work / "root").mkdir()
        for argv in (
            ["tar", "-xf", "/out/root.tar", "-C", "/out/root", "--exclude=./dev/*"],
            ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", "/out/root", "/out/root.ext4", "4G"],
            ["rm", "-r", "/out/root", "/out/root.tar"],
        ):
            tools.run(argv, binds={work: "/out"}, log=log)

    return stage.build(make, progress, "Debian 13 with docker.io") / "root.ext4"


@dataclass(frozen=True)
class Machine:
    """What the stock root runs on: our kernel, and a virtual machine like ours."""

    image: Image
    accelerator: str
    cpus: int
    memory: int


def first_boot(root: Path, directory: Path, machine: Machine) -> Path:
    """A copy of the stock root in a directory, booted once and switched off.

    Raises:
        BootError: it did not end by itself.
    """
    disk = directory / "root.ext4"
    run(["cp", "--sparse=always", root, disk])
    with _running(_arguments(disk, directory / "first.log", machine, _FIRST), directory / "first.log") as process:
        _wait(lambda: process.poll() is not None, "switch itself off", directory / "first.log")
    return disk


def boot_seconds(disk: Path, directory: Path, machine: Machine) -> float:
    """Seconds from QEMU's start until docker.service is up; what is written to the disk is thrown away.

    Raises:
        BootError: it did not get there.
    """
    console = directory / "console.log"
    start = time.perf_counter()
    with _running(_arguments(disk, console, machine, snapshot="on"), console) as process:

        def ready() -> bool:
            return _READY in console.read_text(errors="replace")

        _wait(lambda: ready() or process.poll() is not None, "bring Docker up", console)
        if not ready():
            raise _failed("bring Docker up", console)
        return time.perf_counter() - start


@contextmanager
def _running(argv: list[str], console: Path) -> Iterator[Process[bytes]]:
    console.write_text("")
    process = spawn(argv)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(condition: Callable[[], bool], what: str, console: Path) -> None:
    if not wait_until(condition, _TIMEOUT):
        raise _failed(what, console)


def _failed(what: str, console: Path) -> BootError:
    tail = "\n".join(console.read_text(errors="replace").splitlines()[-10:])
    return BootError(f"the stock root did not {what}; its last lines:\n{tail}", hint="See src/cofferdam/bench/stock.py.")


def _arguments(disk: Path, console: Path, machine: Machine, words: str = "", snapshot: str = "off") -> list[str]:
    accelerator = machine.accelerator
    return [
        *(probe_host().qemu.binary, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35,smm=off,vmport=off,usb=off,graphics=off"),
        *("-accel", "tcg,thread=multi" if accelerator == EMULATION else accelerator),
        *("-cpu", "max,la57=off" if accelerator == EMULATION else "host"),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory}M"),
        *("-kernel", str(machine.image.kernel)),
        *("-append", f"root=/dev/vda rw rootfstype=ext4 console=ttyS0 tsc=reliable no_timer_check quiet {words}".strip()),
        *("-drive", f"file={disk},format=raw,if=none,id=root,discard=unmap,snapshot={snapshot}"),
        *("-device", "virtio-blk-pci,drive=root"),
        *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"),
    ]
