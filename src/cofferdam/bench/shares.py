"""Directories that reach a VM in different ways, compared in one container that has both and works in them in turn.

Before each figure the VM forgets what it has read. The desktop does not: what it has read of the share's files and of the data
disk stays in its memory, so that this compares the ways there and not the desktop's disk.
"""

from __future__ import annotations

from pathlib import Path

from cofferdam.bench.client import Client
from cofferdam.bench.model import Pair, in_turn
from cofferdam.bench.proxy import scale
from cofferdam.bench.workloads import (
    COMMITTING,
    FILLING,
    LOOKING,
    RANDOM_READS,
    READS,
    STATUS,
    UNPACKING,
    WRITES,
    in_directory,
)

ROWS = (
    ("write + fsync", "MiB/s", WRITES),
    ("read", "MiB/s", READS),
    ("random reads of 4 KiB", "1/s", RANDOM_READS),
    ("files unpacked by tar", "1/s", UNPACKING),
    ("files found and looked at", "1/s", LOOKING),
    ("files looked at by git status", "1/s", STATUS),
)
"""Name, unit and what is run; more is better in all of them."""

PREPARING = (FILLING, COMMITTING)
"""What is run in each directory before."""

_CONTAINER = "bench-share"
_OURS, _PEER = "/ours", "/peer"
_ARCHIVE = "/bench.tar"
_FORGET = "sync && echo 3 >/proc/sys/vm/drop_caches"


def measure_shares(client: Client, image: str, share: Path, runs: int, accelerator: str) -> list[Pair]:
    """A shared directory against a volume on the data disk: writing, reading and many small files.

    Args:
        client: of a booted debug image that shares `share`.
        image: has Python, tar and git, and is in the VM.
        share: directory of this machine; empty, and left with what was made in it.
        runs: figures of each side that count.
        accelerator: that of the VM.
    """
    try:
        return compare(client, image, (str(share), _CONTAINER), ("share", "volume"), runs, accelerator)
    finally:
        client.docker("volume", "rm", "-f", _CONTAINER)


def compare(
    client: Client, image: str, sources: tuple[str, str], names: tuple[str, str], runs: int, accelerator: str
) -> list[Pair]:
    """Every row, in one container that has two directories of the VM, or volumes.

    Args:
        client: of the VM, with a shell there.
        image: has Python, tar and git, and is in the VM.
        sources: what is mounted, ours and the peer; empty, and left with what was made in it.
        names: how the rows begin, and the peer's name in them.
        runs: figures of each side that count.
        accelerator: that of the VM.
    """
    files = scale(accelerator).files
    mounts = ("-v", f"{sources[0]}:{_OURS}", "-v", f"{sources[1]}:{_PEER}")
    client.docker("run", "-d", "--name", _CONTAINER, "--network", "none", *mounts, image, "sleep", "86400")
    try:
        for directory in (_OURS, _PEER):
            for text in PREPARING:
                _python(client, text, directory, files)
        return [_pair(client, row, names, runs, files) for row in ROWS]
    finally:
        client.docker("rm", "-f", _CONTAINER)


def script(text: str, directory: str, files: int, archive: str = _ARCHIVE) -> str:
    """A workload for one directory, and for a tree of so many files."""
    return in_directory(text, directory).replace("TREE", str(files)).replace("ARCHIVE", archive)


def _pair(client: Client, row: tuple[str, str, str], names: tuple[str, str], runs: int, files: int) -> Pair:
    name, unit, text = row

    def once(directory: str) -> float:
        client.shell(_FORGET)
        return float(_python(client, text, directory, files))

    ours, peer = in_turn(lambda: once(_OURS), lambda: once(_PEER), runs)
    return Pair(name=f"{names[0]}: {name}", unit=unit, peer_name=names[1], ours=ours, peer=peer, better="more")


def _python(client: Client, text: str, directory: str, files: int) -> str:
    return client.docker("exec", _CONTAINER, "python3", "-c", script(text, directory, files)).stdout
