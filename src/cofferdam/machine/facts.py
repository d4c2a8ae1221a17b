"""What the host offers a virtual machine: QEMU's version, its accelerators, the processor. Read once, judged elsewhere."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cofferdam.errors import HostError
from cofferdam.machine.hosts import macos, windows
from cofferdam.run import run

QEMU_PROGRAM = "qemu-system-x86_64"
OLDEST_QEMU = (9, 0) if sys.platform == "win32" else (7, 2)
"""On Windows the channels are TLS; see `windows-tls` in hosts/traps.py."""
_INSTALL = {
    "linux": "Install QEMU: apt-get install qemu-system-x86.",
    "win32": "Install QEMU: winget install SoftwareFreedomConservancy.QEMU, then open a new terminal.",
    "darwin": "Install QEMU: brew install qemu.",
}


@dataclass(frozen=True)
class QemuFacts:
    """The QEMU that is installed."""

    binary: str
    version: tuple[int, int]
    accelerators: frozenset[str]
    sandbox: bool


@dataclass(frozen=True)
class HostFacts:
    """The host, as far as a virtual machine cares.

    Attributes:
        system: `linux`, `darwin` or `windows`.
        machine: processor architecture, `x86_64` or another.
        cpu_flags: flags of /proc/cpuinfo; empty elsewhere than on Linux.
        kvm_device: /dev/kvm is there.
        kvm_access: /dev/kvm can be opened for reading and writing.
        hypervisor: macOS' Hypervisor framework, or Windows' Hypervisor Platform, is available.
        lack: when it is not, what is missing: a key in LACKS of `hosts.macos` or `hosts.windows`.
    """

    system: str
    machine: str
    qemu: QemuFacts
    cpu_flags: frozenset[str] = field(default_factory=frozenset)
    kvm_device: bool = False
    kvm_access: bool = False
    hypervisor: bool = False
    lack: str = ""


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor number from the output of `qemu --version`.

    Raises:
        HostError: the text holds no version.
    """
    match = re.search(r"version (\d+)\.(\d+)", text)
    if match is None:
        raise HostError(f"{QEMU_PROGRAM} does not tell its version: {text[:80]!r}", hint="Reinstall QEMU.")
    return int(match[1]), int(match[2])


def find_qemu() -> QemuFacts:
    """Locate QEMU and ask what it can do.

    Raises:
        HostError: there is none, or it is too old.
    """
    binary = shutil.which(QEMU_PROGRAM) or _windows_default()
    if binary is None:
        raise HostError(f"{QEMU_PROGRAM} is not installed", hint=_INSTALL.get(sys.platform, _INSTALL["linux"]))
    version = parse_version(run([binary, "--version"], capture=True, timeout=60).stdout)
    if version < OLDEST_QEMU:
        found, needed = ".".join(map(str, version)), ".".join(map(str, OLDEST_QEMU))
        raise HostError(f"{binary} is version {found}; {needed} or later is needed", hint="Update QEMU.")
    listed = run([binary, "-accel", "help"], capture=True, timeout=60).stdout.split()
    known = frozenset(word for word in listed if word in {"kvm", "tcg", "hvf", "whpx"})
    return QemuFacts(binary, version, known, sandbox=_has_sandbox(binary))


def _windows_default() -> str | None:
    path = Path(os.environ.get("PROGRAMFILES", r"C:\Program Files")) / "qemu" / f"{QEMU_PROGRAM}.exe"
    return str(path) if sys.platform == "win32" and path.exists() else None


def _has_sandbox(binary: str) -> bool:
    """Whether this QEMU was built with seccomp: `-sandbox off` is refused by one that was not."""
    if sys.platform != "linux":
        return False
    return run([binary, "-sandbox", "off", "-version"], capture=True, check=False, timeout=60).returncode == 0


def host_system() -> str:
    """`linux`, `darwin` or `windows`."""
    return {"win32": "windows"}.get(sys.platform, sys.platform)


def probe_host() -> HostFacts:
    """Read this machine's facts.

    Raises:
        HostError: no usable QEMU.
    """
    kvm = Path("/dev/kvm")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    qemu = find_qemu()
    lack = _lack(qemu.binary)
    return HostFacts(
        system=host_system(),
        machine=macos.processor(machine, macos.sysctl("hw.optional.arm64")),
        qemu=qemu,
        cpu_flags=_cpu_flags(Path("/proc/cpuinfo")),
        kvm_device=kvm.exists(),
        kvm_access=os.access(kvm, os.R_OK | os.W_OK),
        hypervisor=lack == "",
        lack=lack or "",
    )


def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    if not cpuinfo.exists():
        return frozenset()
    for line in cpuinfo.read_text(errors="replace").splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _lack(binary: str) -> str | None:
    """What the system's own hypervisor lacks, empty when it can be used; none on a system that has none."""
    if sys.platform == "darwin":
        return macos.probe(binary)
    return windows.lack(windows.probe()) if sys.platform == "win32" else None
