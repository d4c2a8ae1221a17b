"""Measures one TCP port behind which `workloads.SERVING` answers; run on the desktop and in the VM, so it stands alone.

Usage: python3 - HOST PORT WORKLOAD ARGUMENT. Prints one number in the workload's unit.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time
from collections.abc import Callable

MIB = 1 << 20
_CHUNK = 256 * 1024
_TIMEOUT = 300.0


def _connect(host: str, port: str) -> socket.socket:
    connection = socket.create_connection((host, int(port)), _TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _ask(connection: socket.socket, size: int) -> None:
    """Ask for so many bytes and take them. Raises ValueError: the connection ends before."""
    connection.sendall(b"%d\n" % size)
    while size > 0:
        taken = len(connection.recv(min(size, _CHUNK)))
        if not taken:
            raise ValueError(f"the connection has ended {size} bytes too early")
        size -= taken


def stream(host: str, port: str, size: str) -> float:
    """MiB a second of an answer of so many MiB, on a connection that is open already."""
    with _connect(host, port) as connection:
        _ask(connection, 1)
        begun = time.perf_counter()
        _ask(connection, int(size) * MIB)
        return int(size) / (time.perf_counter() - begun)


def round_trip(host: str, port: str, count: str) -> float:
    """Median milliseconds from a question of one line to its answer of one byte, on one open connection."""
    times = []
    with _connect(host, port) as connection:
        for _ in range(int(count)):
            begun = time.perf_counter()
            _ask(connection, 1)
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def connection(host: str, port: str, count: str) -> float:
    """Median milliseconds of a new connection, a question and its answer."""
    times = []
    for _ in range(int(count)):
        begun = time.perf_counter()
        with _connect(host, port) as door:
            _ask(door, 1)
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


WORKLOADS: dict[str, Callable[[str, str, str], float]] = {
    "stream": stream,
    "round trip": round_trip,
    "connection": connection,
}

if __name__ == "__main__":
    print(json.dumps(WORKLOADS[sys.argv[3]](sys.argv[1], sys.argv[2], sys.argv[4])))
