"""Accelerators: which of them can run a guest here, and for each that cannot, why and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from cofferdam.errors import HostError
from cofferdam.machine.facts import HostFacts
from cofferdam.machine.hosts import macos, windows
from cofferdam.machine.hosts.choice import NAMES
from cofferdam.machine.settings import Accelerator

_SYSTEMS: dict[Accelerator, str] = {"kvm": "linux", "hvf": "darwin", "whpx": "windows"}


@dataclass(frozen=True)
class Candidate:
    """One accelerator, judged.

    Attributes:
        usable: a guest is expected to run with it.
        reason: why, or why not.
        hint: the next step when it is not usable; may be empty.
    """

    accelerator: Accelerator
    usable: bool
    reason: str
    hint: str = ""

    def as_dict(self) -> dict[str, object]:
        """The fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What to try, in order: a hardware accelerator may be followed by software emulation."""

    attempts: tuple[Candidate, ...]
    why: str


def candidates(facts: HostFacts) -> list[Candidate]:
    """Judge every accelerator on this host, best first."""
    return [_judge("kvm", facts, _kvm), _judge("whpx", facts, _whpx), _judge("hvf", facts, _hvf), _tcg(facts)]


def _judge(name: Accelerator, facts: HostFacts, check: Callable[[HostFacts], Candidate]) -> Candidate:
    system = _SYSTEMS[name]
    if facts.system != system:
        here = NAMES.get(facts.system, facts.system)
        return Candidate(name, False, f"{name} is for {NAMES[system]}; this is {here}")
    if facts.machine != "x86_64":
        return Candidate(name, False, f"this processor is {facts.machine}, and the image's is x86_64")
    if name not in facts.qemu.accelerators:
        return Candidate(name, False, f"{facts.qemu.binary} was built without {name}", "Install your system's own QEMU package.")
    return check(facts)


def _kvm(facts: HostFacts) -> Candidate:
    if not facts.kvm_device:
        hint = "Turn on virtualization in the firmware and load kvm_intel or kvm_amd; inside a VM, turn on nested virtualization."
        return Candidate("kvm", False, "/dev/kvm is not there", hint)
    if not facts.kvm_access:
        return Candidate("kvm", False, "no permission for /dev/kvm", "Run `sudo usermod -aG kvm $USER` and log in again.")
    if not facts.cpu_flags & {"vmx", "svm"}:
        reason = "/dev/kvm is there, but the processor shows neither vmx nor svm: a standard guest hangs before its first message"
        return Candidate("kvm", False, reason, "Turn on nested virtualization for this machine, or use --accel tcg.")
    return Candidate("kvm", True, "/dev/kvm works and the processor has " + ("vmx" if "vmx" in facts.cpu_flags else "svm"))


def _whpx(facts: HostFacts) -> Candidate:
    if not facts.hypervisor:
        return Candidate("whpx", False, *windows.LACKS[facts.lack or "feature"])
    return Candidate("whpx", True, "Windows Hypervisor Platform is on")


def _hvf(facts: HostFacts) -> Candidate:
    if not facts.hypervisor:
        return Candidate("hvf", False, *macos.LACKS[facts.lack or "framework"])
    return Candidate("hvf", True, "the Hypervisor framework is available")


def _tcg(facts: HostFacts) -> Candidate:
    if "tcg" not in facts.qemu.accelerators:
        return Candidate("tcg", False, f"{facts.qemu.binary} was built without tcg", "Install your system's own QEMU package.")
    return Candidate("tcg", True, "software emulation works everywhere, about ten times slower")


def plan(wanted: str, judged: list[Candidate], option: str = "") -> Plan:
    """Decide what to try.

    Args:
        wanted: `auto` or the name of an accelerator.
        judged: the result of `candidates`.
        option: what the user said for it; none means `--accel`.

    Raises:
        HostError: the wanted accelerator cannot work here (never a silent fallback), or none can.
    """
    if wanted != "auto":
        chosen = next(item for item in judged if item.accelerator == wanted)
        if not chosen.usable:
            message = f"{option or f'--accel {wanted}'} cannot work here: {chosen.reason}"
            raise HostError(message, hint=chosen.hint or "Use --accel auto.")
        return Plan((chosen,), f"asked for; {chosen.reason}")
    usable = tuple(item for item in judged if item.usable)
    if not usable:
        reasons = "; ".join(f"{item.accelerator}: {item.reason}" for item in judged)
        raise HostError(f"no accelerator works here: {reasons}", hint="Reinstall QEMU.")
    if usable[0].accelerator != "tcg":
        return Plan(usable, usable[0].reason)
    missed = [item for item in judged if not item.usable and " is for " not in item.reason]
    return Plan(usable, "; ".join(f"no {item.accelerator}: {item.reason}" for item in missed) or usable[0].reason)
