"""The scripts: from values to texts that a person can read and run by hand. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePath

from cofferdam.machine.hyperv.quoting import render

SWITCH = "Cofferdam"
HOST_ADDRESS, PREFIX_LENGTH, NETWORK = "10.0.2.2", 24, "10.0.2.0/24"
LEAST_MEMORY = 512
_MIB = 2**20


@dataclass(frozen=True)
class Machine:
    """One virtual machine of Hyper-V. Sizes in MiB; the data disk's in bytes.

    Attributes:
        name: in Hyper-V.
        mark: its note, by which its scripts know it again: a machine without it is not touched.
        image: the VHDX, which is never written to.
        folder: where its disks lie.
        data_disk: bytes it has at least.
    """

    name: str
    mark: str
    image: PurePath
    folder: PurePath
    cpus: int
    memory: int
    data_disk: int

    @property
    def data(self) -> PurePath:
        """The data disk, all that outlives the machine."""
        return self.folder / "data.vhdx"

    @property
    def handover(self) -> PurePath:
        """The disk with the credentials as this project writes it, gone when the machine runs."""
        return self.folder / "handover.vhd"

    @property
    def console(self) -> str:
        """The named pipe of the serial console."""
        return rf"\\.\pipe\{self.name}"


def boot_script(machine: Machine) -> str:
    """Makes the machine and starts it; on an error nothing of it is left but its data disk."""
    return render(
        "boot",
        **(asdict(machine) | {"memory": machine.memory * _MIB, "least": min(machine.memory, LEAST_MEMORY) * _MIB}),
        data=machine.data,
        handover=machine.handover,
        console=machine.console,
        switch=SWITCH,
    )


def _known(machine: Machine) -> dict[str, object]:
    return {"name": machine.name, "mark": machine.mark}


def stop_script(machine: Machine, *, force: bool) -> str:
    """Asks the guest to end, or ends it, and removes all of the machine but its data disk."""
    return render("stop", **_known(machine), folder=machine.folder, handover=machine.handover, force=force)


def state_script(machine: Machine) -> str:
    """Prints the machine's state as Hyper-V names it, or nothing when there is no such machine."""
    return render("state", **_known(machine))


def probe_script() -> str:
    """Prints what the host has, as JSON for `facts.NativeFacts`."""
    return render("probe", switch=SWITCH, address=HOST_ADDRESS, network=NETWORK)


def network_script() -> str:
    """Makes the switch, its address and its address translation: once for a host, as administrator."""
    return render("network", switch=SWITCH, address=HOST_ADDRESS, length=PREFIX_LENGTH, network=NETWORK)
