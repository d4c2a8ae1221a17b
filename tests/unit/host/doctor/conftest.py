"""A host whose programs, keyring, memory, disk and name server are the tests' own."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cofferdam.doctor import doctor, network, programs, space, system
from cofferdam.doctor.model import Check
from cofferdam.machine.facts import HostFacts, QemuFacts

QEMU = """case "$1" in
--version) echo "QEMU emulator version 9.2.1" ;;
-accel) printf 'Accelerators supported in QEMU binary:\\nkvm\\ntcg\\n' ;;
esac"""
SCRIPTS = {
    "mmdebstrap": "echo mmdebstrap 1.5.7",
    "gpg": "echo 'gpg (GnuPG) 2.4.7'",
    "unshare": "echo unshare from util-linux 2.41",
    "newuidmap": "exit 1",
    "ssh": "echo OpenSSH_10.0p2 >&2",
    "docker": "echo Docker version 28.5.2",
    "qemu-system-x86_64": QEMU,
}
FACTS = QemuFacts("qemu", (9, 2), frozenset({"kvm", "tcg"}), sandbox=True)
KVM = HostFacts("linux", "x86_64", FACTS, frozenset({"svm"}), kvm_device=True, kvm_access=True)
GIB = 2**30


class Machine:
    """A host whose programs, keyring, memory and disk are the test's own; the user is root until told otherwise."""

    kvm, qemu = KVM, QEMU

    def __init__(self, base: Path, name_server: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base, self.monkeypatch = base, monkeypatch
        self.programs = base / "bin"
        self.sysctl = base / "sys"
        for directory in (self.programs, self.sysctl):
            directory.mkdir()
        for name, text in SCRIPTS.items():
            self.script(name, text)
        for name, text in {"keyring": "keys", "meminfo": "MemTotal: 9 kB\nMemAvailable:  8388608 kB\n"}.items():
            (base / name).write_text(text)
        for name in ("subuid", "subgid"):
            (base / name).write_text("nobody:100000:65536\n")
        monkeypatch.delenv("DEBIAN_FRONTEND", raising=False)
        for name in [name for name in os.environ if name.lower().endswith("_proxy") or name in ("DOCKER_HOST", "DOCKER_CONTEXT")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("DOCKER_CONFIG", str(base / "docker"))
        monkeypatch.setenv("PATH", str(self.programs))
        monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(base / "cache"))
        monkeypatch.setenv("COFFERDAM_STATE_HOME", str(base / "state"))
        monkeypatch.setattr(system, "KEYRING", base / "keyring")
        monkeypatch.setattr(system, "MEMINFO", base / "meminfo")
        monkeypatch.setattr(system, "SUBORDINATE", (base / "subuid", base / "subgid"))
        monkeypatch.setattr(system, "SYSCTL", self.sysctl)
        monkeypatch.setattr(programs, "probe_host", lambda: KVM)
        monkeypatch.setattr(network, "RESOLV", base / "resolv.conf")
        monkeypatch.setattr(network, "DNS_PORT", name_server)
        (base / "resolv.conf").write_text("# comment\nnameserver 127.0.0.1\n")
        self.user(0)
        self.free(100 * GIB)

    def script(self, name: str, text: str) -> Path:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def lacks(self, *names: str) -> None:
        for name in names:
            (self.programs / name).unlink()

    def user(self, uid: int) -> None:
        self.monkeypatch.setattr(os, "geteuid", lambda: uid)

    def free(self, size: int) -> None:
        self.monkeypatch.setattr(space.shutil, "disk_usage", lambda _: SimpleNamespace(free=size))

    def check(self, name: str, **options: bool) -> Check:
        return next(check for check in doctor(**options) if check.id == name)


@pytest.fixture(scope="module")
def name_server() -> Iterator[int]:
    """Port of a name server on 127.0.0.1, which refuses every question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (received := server.recvfrom(512))[0]:
                question, client = received
                server.sendto(question[:2] + b"\x81\x05" + question[4:], client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.sendto(b"", server.getsockname())
        thread.join()


@pytest.fixture
def machine(name_server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    # Not below tmp_path, which is closed to other users: that is one of the requirements.
    base = Path(tempfile.mkdtemp(prefix="doctor-", dir="/tmp"))
    base.chmod(0o755)
    yield Machine(base, name_server, monkeypatch)
    shutil.rmtree(base)
