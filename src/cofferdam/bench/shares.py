"""A shared directory against the data disk: one isolated container has both, and works in them in turn.

Before each figure the VM forgets what it has read. The desktop does not: what it has read of the share's files and of the data
disk stays in its memory, so that this compares the ways there and not the desktop's disk.
"""

from __future__ import annotations

from pathlib import Path

from cofferdam.bench.client import Client
from cofferdam.bench.model import Pair, in_turn
from cofferdam.bench.workloads import FILLING, LOOKING, RANDOM_READS, READS, UNPACKING, WRITES, in_directory

ROWS = (
    ("share: write + fsync", "MiB/s", WRITES),
    ("share: read", "MiB/s", READS),
    ("share: random reads of 4 KiB", "1/s", RANDOM_READS),
    ("share: files unpacked by tar", "1/s", UNPACKING),
    ("share: files found and looked at", "1/s", LOOKING),
)
"""Name, unit and what is run; more is better in all of them."""

_PEER = "volume"
_CONTAINER = "bench-share"
_SHARE, _VOLUME = "/share", "/volume"
_ARCHIVE = "/bench.tar"
_FORGET = "sync && echo 3 >/proc/sys/vm/drop_caches"


def measure_shares(client: Client, image: str, share: Path, runs: int) -> list[Pair]:
    """Writing, reading and many small files.

    Args:
        client: of a booted debug image that shares `share`.
        image: has Python and tar, and is in the VM.
        share: directory of this machine; empty, and left with what was made in it.
        runs: figures of each side that count.
    """
    mounts = ("-v", f"{share}:{_SHARE}", "-v", f"{_CONTAINER}:{_VOLUME}")
    client.docker("run", "-d", "--name", _CONTAINER, "--network", "none", *mounts, image, "sleep", "86400")
    try:
        for directory in (_SHARE, _VOLUME):
            _python(client, FILLING, directory)
        return [_pair(client, *row, runs) for row in ROWS]
    finally:
        client.docker("rm", "-f", _CONTAINER)
        client.docker("volume", "rm", _CONTAINER)


def script(text: str, directory: str, archive: str = _ARCHIVE) -> str:
    """A workload for one directory."""
    return in_directory(text, directory).replace("ARCHIVE", archive)


def _pair(client: Client, name: str, unit: str, text: str, runs: int) -> Pair:
    def once(directory: str) -> float:
        client.shell(_FORGET)
        return float(_python(client, text, directory))

    ours, peer = in_turn(lambda: once(_SHARE), lambda: once(_VOLUME), runs)
    return Pair(name=name, unit=unit, peer_name=_PEER, ours=ours, peer=peer, better="more")


def _python(client: Client, text: str, directory: str) -> str:
    return client.docker("exec", _CONTAINER, "python3", "-c", script(text, directory)).stdout
