"""Measures one socket of the Docker API from inside the VM; run there, so it stands alone: the standard library and nothing else.

Usage: python3 - SOCKET WORKLOAD [ARGUMENT ...]. Prints one JSON value: a number in the workload's unit, or a list of them.
The client is as thin as can be, raw requests on Unix sockets, so that what it costs itself hides little of the difference.
"""

from __future__ import annotations

import hashlib
import io
import json
import resource
import socket
import statistics
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

MIB = 1 << 20
_CHUNK = 256 * 1024
_GO_CHUNK = 32 * 1024
_TIMEOUT = 300.0
_SETTLE = 2.0
_ACCOUNTS = Path("/sys/fs/cgroup/system.slice")


class Door:
    """One connection to the API."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        # connected first: with a time limit a full backlog is an error, and without one it is waited for
        self.socket.connect(path)
        self.socket.settimeout(_TIMEOUT)
        self.file = self.socket.makefile("rb", _CHUNK)

    def send(self, method: str, target: str, body: bytes = b"", **fields: str) -> None:
        """Send a request; a body is JSON unless `Content_Type` says otherwise."""
        self._begin(method, target, Content_Length=str(len(body)), **fields)
        if body:
            self.socket.sendall(body)

    def send_chunks(self, method: str, target: str, body: bytes, **fields: str) -> None:
        """Send a request whose body has no length, in chunks as the docker program sends them: 32 KiB, three writes each."""
        self._begin(method, target, Transfer_Encoding="chunked", **fields)
        view = memoryview(body)
        for at in range(0, len(body), _GO_CHUNK):
            piece = view[at : at + _GO_CHUNK]
            for part in (b"%x\r\n" % len(piece), piece, b"\r\n"):
                self.socket.sendall(part)
        self.socket.sendall(b"0\r\n\r\n")

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and fields of the answer."""
        first, fields = self._line(), {}
        while line := self._line():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return int(first.split()[1]), fields

    def answer(self) -> bytes:
        """The whole body of the answer.

        Raises:
            ValueError: the status tells of an error.
        """
        status, fields = self.head()
        body = self._chunks() if fields.get("transfer-encoding") == "chunked" else self.take(int(fields.get("content-length", 0)))
        if status >= 300:
            raise ValueError(f"status {status}: {body.decode(errors='replace')}")
        return body

    def take(self, size: int) -> bytes:
        """That many bytes. Raises ValueError: the connection ends before."""
        data: bytes = self.file.read(size)
        if len(data) != size:
            raise ValueError(f"the connection has ended {size - len(data)} bytes too early")
        return data

    def close(self) -> None:
        """Leave."""
        self.file.close()
        self.socket.close()

    def _begin(self, method: str, target: str, **fields: str) -> None:
        named = {"Host": "docker", "Content_Type": "application/json", **fields}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
        self.socket.sendall("\r\n".join([f"{method} /v1.45{target} HTTP/1.1", *lines, "", ""]).encode())

    def _line(self) -> str:
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ValueError(f"the connection has ended in the middle of a line: {line!r}")
        return line.decode("latin-1").strip()

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._line(), 16):
            body += self.take(size)
            self._line()
        self._line()
        return body


def ask(path: str, method: str, target: str, body: bytes = b"", **fields: str) -> bytes:
    """One request on a connection of its own. Raises ValueError: see `Door.answer`."""
    with closing(Door(path)) as door:
        door.send(method, target, body, **fields)
        return door.answer()


def rate(path: str, target: str, count: str, connections: str) -> float:
    """GET requests a second on some connections that are kept open, one request on each at a time."""
    rounds = int(count) // int(connections)
    with ExitStack() as stack:
        doors = [stack.enter_context(closing(Door(path))) for _ in range(int(connections))]
        begun = time.perf_counter()
        for _ in range(rounds):
            for door in doors:
                door.send("GET", target)
            for door in doors:
                door.answer()
        return rounds * len(doors) / (time.perf_counter() - begun)


def latency(path: str, target: str, count: str) -> float:
    """Median milliseconds of a GET request on one open connection, one after the other."""
    times = []
    with closing(Door(path)) as door:
        for _ in range(int(count)):
            begun = time.perf_counter()
            door.send("GET", target)
            door.answer()
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def start(path: str, image: str) -> float:
    """Seconds of creating and starting a container, without its removal."""
    body = json.dumps({"Image": image, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}).encode()
    with closing(Door(path)) as door:
        begun = time.perf_counter()
        door.send("POST", "/containers/create", body)
        name = json.loads(door.answer())["Id"]
        door.send("POST", f"/containers/{name}/start")
        door.answer()
        took = time.perf_counter() - begun
    ask(path, "DELETE", f"/containers/{name}?force=1")
    return took


def attach(path: str, container: str, size: str) -> float:
    """MiB a second of standard output from a container that answers each line with so many MiB."""
    with closing(Door(path)) as door:
        target = f"/containers/{container}/attach?stream=1&stdin=1&stdout=1"
        door.send("POST", target, Connection="Upgrade", Upgrade="tcp")
        status, _ = door.head()
        if status != 101:
            raise ValueError(f"attach: status {status}")
        begun, left = time.perf_counter(), int(size) * MIB
        door.socket.sendall(b"\n")
        while left > 0:
            # a frame of a multiplexed stream: 8 bytes, the last four its length
            left -= len(door.take(int.from_bytes(door.take(8)[4:], "big")))
        return int(size) / (time.perf_counter() - begun)


def load(path: str, size: str, framing: str) -> float:
    """MiB a second of loading an image of one layer, which is removed again; sent `counted`, with its length, or `chunked`."""
    archive = image_archive(int(size))
    remove = "/images/cofferdam-bench/load:latest?force=1"
    return _timed_stream(path, "/images/load?quiet=1", archive, remove, chunked=framing == "chunked")


def context(path: str, size: str) -> float:
    """MiB a second of sending a build context to a build that does nothing with it."""
    archive = packed({"Dockerfile": b"FROM scratch\nCOPY Dockerfile /\n", "data": bytes(int(size) * MIB)})
    return _timed_stream(path, "/build?nocache=1&t=cofferdam-bench/build:latest", archive, "/images/cofferdam-bench/build:latest")


def _timed_stream(path: str, target: str, archive: bytes, remove: str, *, chunked: bool = False) -> float:
    with closing(Door(path)) as door:
        begun = time.perf_counter()
        send = door.send_chunks if chunked else door.send
        send("POST", target, archive, Content_Type="application/x-tar")
        said = door.answer()
        took = time.perf_counter() - begun
    if b'"errorDetail"' in said:
        raise ValueError(said.decode(errors="replace"))
    ask(path, "DELETE", remove)
    return len(archive) / MIB / took


def packed(files: dict[str, bytes]) -> bytes:
    """A tar of files."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return sink.getvalue()


def image_archive(size: int) -> bytes:
    """A docker archive of one image whose layer holds a file of so many MiB."""
    layer = packed({"data": bytes(range(256)) * (size * MIB // 256)})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": ["cofferdam-bench/load:latest"], "Layers": ["layer.tar"]}]
    return packed({"config.json": config, "manifest.json": json.dumps(manifest).encode(), "layer.tar": layer})


def streams(path: str, unit: str, count: str) -> list[float]:
    """MiB that the processes of a unit take (proportional set size) without and with so many open streams of events."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count) + 100,) * 2)
    processes = _ACCOUNTS / unit / "cgroup.procs"
    before = memory(processes)
    with ExitStack() as stack:
        doors = [stack.enter_context(closing(Door(path))) for _ in range(int(count))]
        for door in doors:
            door.send("GET", "/events")
        for door in doors:
            if door.head()[0] != 200:
                raise ValueError("no stream of events")
        time.sleep(_SETTLE)
        return [before, memory(processes)]


def memory(processes: Path) -> float:
    """MiB of proportional set size of the processes listed in a file."""
    total = 0
    for process in processes.read_text().split():
        rollup = Path("/proc", process, "smaps_rollup").read_text()
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


WORKLOADS: dict[str, Callable[..., Any]] = {
    "rate": rate,
    "latency": latency,
    "start": start,
    "attach": attach,
    "load": load,
    "context": context,
    "streams": streams,
}

if __name__ == "__main__":
    print(json.dumps(WORKLOADS[sys.argv[2]](sys.argv[1], *sys.argv[3:])))
