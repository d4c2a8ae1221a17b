"""Isolated containers against stock runc, in turn, on one VM.

Stock runc is brought into the debug VM for the time of the bench: its binary goes to /run, and dockerd's settings there get it as
the runtime `stock`. Nothing of that outlives the VM. Both sides are driven over dockerd's own socket: the API proxy takes no
runtime from a client, so that through it stock runc would silently be ours.
"""

from __future__ import annotations

import json
from pathlib import Path

from cofferdam.bench.client import Client
from cofferdam.bench.model import Pair, in_turn, seconds
from cofferdam.bench.workloads import FILES, SYSCALLS, WRITES, in_directory
from cofferdam.errors import InstanceError

_STOCK = "/run/cofferdam-bench/runc"
_CONFIG = "/run/cofferdam/policy/daemon.json"
RUNTIMES = ("runc", "stock")


def add_stock_runtime(client: Client, runc: Path) -> None:
    """Make `docker run --runtime stock` run the stock runc binary at `runc` (host path).

    Raises:
        InstanceError: dockerd does not take it.
    """
    client.shell(f"mkdir -p {Path(_STOCK).parent} && cat > {_STOCK} && chmod 755 {_STOCK}", input=runc.read_bytes())
    settings = json.loads(client.shell(f"cat {_CONFIG}"))
    settings.setdefault("runtimes", {})["stock"] = {"path": _STOCK}
    client.shell(
        f"cat > {_CONFIG} && systemctl kill --kill-whom=main -s HUP docker.service",
        input=json.dumps(settings).encode(),
    )
    for _ in range(50):
        if "stock" in client.docker("info", "--format", "{{json .Runtimes}}").stdout:
            return
        client.shell("sleep 0.2")
    raise InstanceError("dockerd in the VM has not taken the stock runtime", hint="See `inv logs --name bench --unit docker`.")


def start_times(client: Client, image: str, runs: int) -> Pair:
    """Seconds of a whole `docker run --rm IMAGE true`."""

    def once(runtime: str) -> float:
        return seconds(lambda: client.docker("run", "--rm", "--runtime", runtime, "--network", "none", image, "true"))

    ours, peer = in_turn(lambda: once("runc"), lambda: once("stock"), runs)
    return Pair(name="docker run --rm", unit="s", peer_name="stock runc", ours=ours, peer=peer, better="less", goal=1.0)


def throughput(client: Client, image: str, runs: int) -> list[Pair]:
    """System calls, synced writes and file operations a second: in the container's root and in a volume."""
    names = {}
    for runtime in RUNTIMES:
        names[runtime] = f"bench-{runtime}"
        client.docker(
            "run", "-d", "--name", names[runtime], "--runtime", runtime, "-v", f"{names[runtime]}:/data", image, "sleep", "86400"
        )
    try:
        return [
            _throughput(client, names, runs, "system calls", "1/s", SYSCALLS),
            _throughput(client, names, runs, "write + fsync, root", "MiB/s", in_directory(WRITES, "/root")),
            _throughput(client, names, runs, "write + fsync, volume", "MiB/s", in_directory(WRITES, "/data")),
            _throughput(client, names, runs, "files, root", "1/s", in_directory(FILES, "/root")),
            _throughput(client, names, runs, "files, volume", "1/s", in_directory(FILES, "/data")),
        ]
    finally:
        client.docker("rm", "-f", "-v", *names.values())


def _throughput(client: Client, names: dict[str, str], runs: int, name: str, unit: str, script: str) -> Pair:
    def once(runtime: str) -> float:
        return float(client.docker("exec", names[runtime], "python3", "-c", script).stdout)

    ours, peer = in_turn(lambda: once("runc"), lambda: once("stock"), runs)
    return Pair(name=name, unit=unit, peer_name="stock runc", ours=ours, peer=peer, better="more", goal=0.97)
