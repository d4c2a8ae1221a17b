"""Shared directories by virtiofs against 9p, in one VM: the stock Debian with its own kernel, for ours has no 9p.

Server and options of virtiofs are those of our shares. 9p is mounted as Lima does it for directories that can be written.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cofferdam.bench.image import IMAGE
from cofferdam.bench.model import Pair
from cofferdam.bench.shares import compare
from cofferdam.bench.stockvm import Machine, StockVm
from cofferdam.guestconfig import Share
from cofferdam.machine.channels import listening
from cofferdam.machine.facts import probe_host
from cofferdam.machine.shares.program import virtiofsd
from cofferdam.machine.shares.server import server_arguments
from cofferdam.progress import Progress
from cofferdam.run import run, spawn

NAMES = ("virtiofs", "9p, both in stock Debian 13")
_DEVICES = ("vhost-user-fs-pci", "virtio-9p-pci")
_OURS, _PEER = "/srv/virtiofs", "/srv/9p"
_NINE = "trans=virtio,version=9p2000.L,msize=131072,cache=mmap"
"""https://github.com/lima-vm/lima, templates/default.yaml: mounts[].9p."""
_MOUNTS = (
    f"mkdir -p {_OURS} {_PEER} && modprobe -a virtiofs 9p 9pnet_virtio"
    f" && mount -t virtiofs virtiofs {_OURS} && mount -t 9p -o {_NINE} 9p {_PEER}"
)


def missing(listed: str) -> list[str]:
    """Which devices a QEMU lacks, by what it says to `-device help`."""
    return [name for name in _DEVICES if f'"{name}"' not in listed]


def measure_transports(vm: StockVm, machine: Machine, runs: int, progress: Progress) -> list[Pair]:
    """Writing, reading and many small files, in a container with both; no row, with a line of progress, where QEMU lacks one.

    Args:
        vm: the stock Debian.
        machine: what it is booted with; its kernel has both file systems.
        runs: figures of each side that count.
        progress: where progress goes.

    Raises:
        CommandError: the kernel does not mount one of them.
    """
    if lacking := missing(run([probe_host().qemu.binary, "-device", "help"], capture=True, timeout=60).stdout):
        progress.step(f"not compared with 9p: this QEMU has no {', '.join(lacking)}")
        return []
    with (
        tempfile.TemporaryDirectory(dir=vm.directory) as place,
        _served(Path(place), machine, progress) as words,
        vm.powered_on(machine, words),
    ):
        vm.client.shell(_MOUNTS)
        return compare(vm.client, IMAGE, (_OURS, _PEER), NAMES, runs, machine.accelerator)


@contextmanager
def _served(directory: Path, machine: Machine, progress: Progress) -> Iterator[list[str]]:
    """Two directories of this machine, one served by virtiofsd and one by QEMU; QEMU's words."""
    ours, peer = directory / "virtiofs", directory / "9p"
    for path in (ours, peer):
        path.mkdir()
    with listening(directory / "share") as channel:
        assert channel.handle is not None, "shares are Linux's"
        argv = server_arguments(Share(str(ours)), virtiofsd(progress), channel.handle, [], uid=os.getuid())
        server = spawn(argv, pass_fds=[channel.handle])
    try:
        yield transport_words(directory / "share", peer, machine.memory)
    finally:
        server.kill()
        server.wait()


def transport_words(socket: Path, peer: Path, memory: int) -> list[str]:
    """QEMU's words for a virtiofs server's socket and a directory by 9p; the guest's memory in MiB."""
    return [
        *("-object", f"memory-backend-memfd,id=ram,size={memory}M,share=on", "-machine", "memory-backend=ram"),
        *("-chardev", f"socket,id=share,path={socket}"),
        *("-device", "vhost-user-fs-pci,chardev=share,tag=virtiofs,queue-size=1024"),
        *("-fsdev", f"local,id=nine,path={peer},security_model=none", "-device", "virtio-9p-pci,fsdev=nine,mount_tag=9p"),
    ]
