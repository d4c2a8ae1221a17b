"""State, sockets and docker settings of these tests lie in directories of their own; no docker program is found unless a test asks."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cofferdam.machine import launch
from cofferdam.machine.channels import Address, free_port
from cofferdam.machine.instance import Instance, Record
from cofferdam.machine.qmp import Monitor

QEMU = shutil.which("qemu-system-x86_64")
HOLD = """
import sys, time
from pathlib import Path
from cofferdam.machine.hostos import FileLock
assert FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""
Holder = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Not below tmp_path: the path of a Unix socket is limited to 108 bytes.
    sockets = tempfile.mkdtemp(prefix="cd-")
    programs = tmp_path / "no-programs"
    programs.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", sockets)
    monkeypatch.setenv("COFFERDAM_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("PATH", str(programs))
    # The worker that runs this may have booted VMs for other suites: what they started is no test's own.
    monkeypatch.setattr(launch, "_children", [])
    yield tmp_path / "state"
    shutil.rmtree(sockets)


@pytest.fixture
def hold() -> Iterator[Holder]:
    """Start a process that holds a lock; it is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(path: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def instance() -> Instance:
    made = Instance("box")
    made.create()
    return made


@pytest.fixture
def record() -> Record:
    return Record(
        profile="default",
        accelerator="tcg",
        cpus=2,
        memory=2048,
        docker_port=2376,
        qmp="/nowhere/qmp",
        ready_port="/nowhere/ready",
    )


class RealQemu:
    """A QEMU without a machine in it: its user network and its monitors are the real ones.

    Attributes:
        door: a forwarded port of the instance's own.
        guest: the listening end of the channel for the guest's questions, accepted as the guest.
    """

    def __init__(self, instance: Instance, *more: str) -> None:
        assert QEMU is not None
        self.instance, self.door = instance, free_port()
        self._channels = {kind: socket.socket(socket.AF_UNIX) for kind in ("qmp", "keeper")}
        self.guest = socket.socket(socket.AF_UNIX)
        for kind, channel in [*self._channels.items(), ("ports", self.guest)]:
            channel.bind(str(instance.socket(kind)))
            channel.listen(1)
        words = [QEMU, "-machine", "none", "-nodefaults", "-display", "none"]
        words += ["-netdev", f"user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:{self.door}-10.0.2.15:2376"]
        for kind, channel in self._channels.items():
            words += ["-chardev", f"socket,id={kind},fd={channel.fileno()},server=on,wait=off", "-mon", f"{kind},mode=control"]
        words += more
        assert instance.life.acquire()
        with instance.life.holding(), instance.qemu_log.open("ab") as log:
            handles = [*(channel.fileno() for channel in self._channels.values()), instance.life.fileno()]
            self.process = subprocess.Popen(words, pass_fds=handles, stdin=subprocess.DEVNULL, stderr=log, stdout=log)
        for channel in self._channels.values():
            channel.close()

    @property
    def keeper(self) -> Address:
        """The keeper's monitor."""
        return Address(path=str(self.instance.socket("keeper")))

    def forwards(self) -> list[str]:
        """The commands' monitor: every forward, such as `tcp:127.0.0.1:8080`."""
        with Monitor(Address(path=str(self.instance.socket("qmp")))) as monitor:
            text = monitor.execute("human-monitor-command", **{"command-line": "info usernet"})
        rows = re.findall(r"(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)", text)
        return sorted(f"{proto.lower()}:{address}:{port}" for proto, address, port in rows)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.guest.close()


@pytest.fixture
def qemu(instance: Instance) -> Iterator[RealQemu]:
    if QEMU is None:
        pytest.skip("QEMU is not installed: see `inv doctor`")
    made = RealQemu(instance)
    yield made
    made.end()


def keeper_pid(instance: Instance) -> int:
    """The keeper of an instance among all processes, other tests' keepers left out."""
    home = str(instance.directory.parent.parent).encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"cofferdam.machine.ports.keeper" in words and home in (entry / "environ").read_bytes():
                return int(entry.name)
    raise AssertionError("there is no keeper")
