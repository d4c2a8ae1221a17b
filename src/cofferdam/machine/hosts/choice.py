"""What `--hyperv`, `--native` and `--emulate-hyperv` ask for on which host: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass

from cofferdam.errors import HostError, UsageError
from cofferdam.machine.settings import BootSettings

NAMES = {"linux": "Linux", "darwin": "macOS", "windows": "Windows"}

# What to do in place of --hyperv.
_INSTEAD = {
    "linux": "Leave it out: KVM is used here when it works. --emulate-hyperv shows the guest Hyper-V's interfaces under KVM.",
    "darwin": "Leave it out: the Hypervisor framework (hvf) is used here when it works.",
}


@dataclass(frozen=True)
class Choice:
    """How the machine is run.

    Attributes:
        accel: `auto` or the accelerator that QEMU has to use.
        option: what the user said for it, for messages.
        native: without QEMU, by Hyper-V itself.
    """

    accel: str
    option: str
    native: bool = False


def choose(settings: BootSettings, system: str) -> Choice:
    """Decide.

    Args:
        settings: of the boot.
        system: `linux`, `darwin` or `windows`.

    Raises:
        UsageError: the options contradict each other.
        HostError: this host cannot do it.
    """
    if settings.native and not settings.hyperv:
        raise UsageError("--native is a kind of --hyperv", hint="Give both: `inv boot --hyperv --native`.")
    if settings.hyperv and settings.emulate_hyperv:
        raise UsageError("--hyperv and --emulate-hyperv", hint="The first is for Windows, the second for Linux: give one.")
    if settings.hyperv:
        return _hyperv(settings, system)
    if settings.emulate_hyperv:
        if system != "linux":
            hint = "Leave it out; on Windows --hyperv uses the real one."
            raise HostError(f"--emulate-hyperv needs KVM, which is for Linux; this is {NAMES.get(system, system)}", hint=hint)
        return Choice(_only("kvm", settings, "--emulate-hyperv"), "--emulate-hyperv")
    return Choice(settings.accel, f"--accel {settings.accel}")


def _hyperv(settings: BootSettings, system: str) -> Choice:
    if system != "windows":
        message = f"--hyperv uses the hypervisor of Windows; this is {NAMES.get(system, system)}"
        raise HostError(message, hint=_INSTEAD.get(system, "Leave it out."))
    if not settings.native:
        return Choice(_only("whpx", settings, "--hyperv"), "--hyperv")
    if settings.accel != "auto":
        raise UsageError(f"--accel {settings.accel} and --native: Hyper-V itself runs the machine", hint="Leave one of them out.")
    if settings.tpm:
        raise UsageError("--tpm and --native: swtpm is for QEMU on Linux", hint="Leave one of them out.")
    return Choice("auto", "--hyperv --native", native=True)


def _only(name: str, settings: BootSettings, option: str) -> str:
    if settings.accel not in ("auto", name):
        raise UsageError(f"--accel {settings.accel} and {option}, which needs {name}", hint="Leave one of them out.")
    return name
