"""Known traps of QEMU by host, accelerator and version: a row each, with what it changes on the command line and its source.

docs/hyperv.md explains each row; a test keeps the two lists equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cofferdam.machine.settings import Accelerator

Version = tuple[int, int]

HYPERV_FLAGS = "hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-time,hv-vpindex,hv-synic,hv-stimer"
"""What KVM can show a guest of Hyper-V's own interfaces; each needs those before it."""


@dataclass(frozen=True)
class Traits:
    """What of the command line depends on the host.

    Attributes:
        accel: options behind the accelerator's name.
        cpu: the processor model.
        page_reporting: the guest tells which memory is free, and QEMU gives that back.
    """

    accel: str = ""
    cpu: str = "host"
    page_reporting: bool = True


@dataclass(frozen=True)
class Trap:
    """A trap, and what is done about it.

    Attributes:
        id: its name in docs/hyperv.md.
        why: what goes wrong.
        source: where that is told.
        accelerator: the one that has it; none for all.
        system: the host that has it; none for all.
        since: the first version of QEMU that has it.
        until: the first version that has it no more.
        changes: what of the traits it changes.
        handled: the module that sees to it, where it is not the command line.
    """

    id: str
    why: str
    source: str
    accelerator: Accelerator | None = None
    system: str | None = None
    since: Version = (0, 0)
    until: Version = (999, 0)
    changes: Mapping[str, Any] = field(default_factory=dict)
    handled: str = "machine/cmdline.py"

    def concerns(self, accelerator: Accelerator, system: str, version: Version) -> bool:
        """Whether a machine on that host has it."""
        here = self.accelerator in (None, accelerator) and self.system in (None, system)
        return here and self.since <= version < self.until


TRAPS = (
    Trap(
        "tcg-threads",
        "one thread for all processors unless asked otherwise",
        "QEMU, docs/devel/multi-thread-tcg",
        accelerator="tcg",
        changes={"accel": "thread=multi"},
    ),
    Trap(
        "tcg-features",
        "five-level page tables make each emulated page walk longer and give this guest nothing; `enhanced` string instructions "
        "are emulated byte by byte, and without the flags kernel and libraries copy and clear by words, an eighth faster",
        "measured",
        accelerator="tcg",
        changes={"cpu": "max,la57=off,erms=off,fsrm=off"},
    ),
    Trap(
        "whpx-irqchip",
        "with Hyper-V's interrupt controller, the default before 11, message-signalled interrupts are lost "
        "(`injection failed, MSI`) and the guest hangs; 11 mends it and boots with it",
        "QEMU issue 346; QEMU, docs/system/whpx (11.0)",
        accelerator="whpx",
        until=(11, 0),
        changes={"accel": "kernel-irqchip=off"},
    ),
    Trap(
        "whpx-cpu",
        "`host` is no model there and `max` ends the guest with `Unexpected VP exit code 4`; qemu64 works, but hides SSE4 and "
        "POPCNT, without which images for x86-64-v2 do not start; 11.0 ignores the model and shows the host's processor",
        "QEMU issues 1043 and 2403; QEMU, docs/system/whpx (11.0)",
        accelerator="whpx",
        changes={"cpu": "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"},
    ),
    Trap(
        "windows-build",
        "WHPX is tried by QEMU's developers from Windows 10 2004 (build 19041) on",
        "QEMU, docs/system/whpx (11.0)",
        accelerator="whpx",
        handled="machine/hosts/windows.py",
    ),
    Trap(
        "windows-free-pages",
        "QEMU has no way to give memory back to Windows, and writes `MADVISE not available` to its log for each report",
        "QEMU, system/physmem.c, ram_block_discard_range",
        system="windows",
        changes={"page_reporting": False},
    ),
    Trap(
        "windows-channels",
        "no descriptor can be handed to QEMU and Python knows no Unix sockets: the channels are loopback ports, which any "
        "program of any user may connect to",
        "Python, socket.AF_UNIX; QEMU, docs/system/tls",
        system="windows",
        handled="machine/hosts/channeltls.py",
    ),
    Trap(
        "windows-tls",
        "what a TLS channel has decrypted already is left lying until more comes (before 8.0), or is given to a device that has "
        "no room for it (before 9.0): a monitor does not answer",
        "measured with 7.2; QEMU, commits ffda5db65a and 462945cd22",
        system="windows",
        until=(9, 0),
        handled="machine/facts.py",
    ),
    Trap(
        "windows-shares",
        "virtiofsd, vhost-user devices and memory-backend-memfd are for Linux: no directory is shared",
        "QEMU, docs/interop/vhost-user; virtiofsd, README",
        system="windows",
        handled="machine/shares/program.py",
    ),
    Trap(
        "windows-names",
        "QEMU opens files by the system's code page: a path with other letters than those of ASCII is not found",
        "QEMU, block/file-win32.c; issue 479 of xemu, which is made from QEMU",
        system="windows",
    ),
    Trap(
        "windows-locks",
        "QEMU locks no disk image: two of them on one would destroy it",
        "QEMU, block/file-win32.c",
        system="windows",
        handled="machine/instance.py",
    ),
    Trap(
        "windows-sparse",
        "a file is only sparse when that is asked for: 20 GiB of zeros would take 20 GiB; nothing is given back by discard",
        "Windows, FSCTL_SET_SPARSE; QEMU, block/file-win32.c",
        system="windows",
        handled="machine/hostos.py",
    ),
    Trap(
        "windows-console",
        "Ctrl+C in the terminal ends every program of its group, QEMU too",
        "Windows, CREATE_NEW_PROCESS_GROUP",
        system="windows",
        handled="run.py",
    ),
    Trap(
        "macos-entitlement",
        "a QEMU that is not signed with com.apple.security.hypervisor is refused by the system (HV_DENIED)",
        "Apple, Hypervisor framework; QEMU, accel/hvf/entitlements.plist",
        accelerator="hvf",
        handled="machine/hosts/macos.py",
    ),
    Trap(
        "macos-rosetta",
        "programs for Intel on Apple silicon are told that the processor is x86_64; there is no acceleration for such guests",
        "Apple, sysctl.proc_translated",
        system="darwin",
        handled="machine/hosts/macos.py",
    ),
    Trap(
        "macos-shares",
        "virtiofsd needs Linux's namespaces: no directory is shared",
        "virtiofsd, README",
        system="darwin",
        handled="machine/shares/program.py",
    ),
)


def traits(accelerator: Accelerator, system: str, version: Version, *, enlightened: bool = False) -> Traits:
    """The traits of a machine: those that hold everywhere, changed by every trap that concerns it.

    Args:
        accelerator: what runs it.
        system: `linux`, `darwin` or `windows`.
        version: QEMU's.
        enlightened: show the guest Hyper-V's interfaces, which needs KVM.
    """
    found = Traits()
    for trap in TRAPS:
        if trap.concerns(accelerator, system, version):
            found = replace(found, **trap.changes)
    return replace(found, cpu=f"{found.cpu},{HYPERV_FLAGS}") if enlightened else found
