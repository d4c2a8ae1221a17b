"""Disks of Hyper-V by their place on its SCSI controller; there is no udev that would link them, and their letters may change."""

import os
import time

VMBUS = "/sys/bus/vmbus/devices"
DISKS = "/sys/class/scsi_disk"
ROOT, DATA, HANDOVER = 0, 1, 2
"""Places that the host gives the three disks of a machine."""

_SEARCH_SECONDS = 0.05


class DiskMissing(Exception):
    """There is no such disk, or more than one."""


def on_hyperv(devices: str = VMBUS) -> bool:
    """Whether this is a machine of Hyper-V, with its bus; a hypervisor that only looks like it has none."""
    try:
        return bool(os.listdir(devices))
    except FileNotFoundError:
        return False


def find_disk(place: int, disks: str = DISKS) -> str | None:
    """Name of the disk at that place, such as `sdb`; None while the kernel has not announced it.

    Raises:
        DiskMissing: several controllers have one there.
    """
    try:
        entries = [entry for entry in os.listdir(disks) if entry.rpartition(":")[2] == str(place)]
    except FileNotFoundError:
        return None
    if len(entries) > 1:
        raise DiskMissing(f"there are several disks at place {place}: {', '.join(sorted(entries))}")
    try:
        names = os.listdir(f"{disks}/{entries[0]}/device/block") if entries else []
    except FileNotFoundError:
        return None
    return names[0] if names else None


def await_disk(place: int, seconds: float, disks: str = DISKS) -> str:
    """`find_disk`, with patience: the bus announces its devices in its own time.

    Raises:
        DiskMissing: it does not come, or is not the only one there.
    """
    deadline = time.monotonic() + seconds
    while True:
        name = find_disk(place, disks)
        if name is not None and os.path.exists(f"/dev/{name}"):
            return name
        if time.monotonic() > deadline:
            raise DiskMissing(f"there is no disk at place {place} of the SCSI controller")
        time.sleep(_SEARCH_SECONDS)
