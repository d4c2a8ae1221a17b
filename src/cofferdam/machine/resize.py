"""Resizing: sizes that are stored for later boots, and a data disk that grows at once, under a running guest as well."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

from cofferdam.errors import InstanceError
from cofferdam.machine import growth
from cofferdam.machine.boot import recover
from cofferdam.machine.disk import disk_size, ensure_data_disk, exact, human, refuse_smaller, used_bytes
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.settings import Sizes
from cofferdam.machine.stored import latest_profile, read_sizes, write_sizes


@dataclass(frozen=True)
class DiskReport:
    """What became of the data disk; sizes in bytes.

    Attributes:
        before: what it had; 0 when there was none.
        size: what it has.
        filesystem: what the running guest's file system has now; none when no guest has told.
        pending: why a running guest still uses the old size; empty when it does not, or none runs.
        note: what else the user should know.
    """

    before: int
    size: int
    filesystem: int | None = None
    pending: str = ""
    note: str = ""

    def lines(self) -> list[str]:
        """The report as text."""
        words = f"has {human(self.size)}"
        if self.before != self.size:
            words = (
                f"grown from {human(self.before)} to {human(self.size)}" if self.before else f"created, it has {human(self.size)}"
            )
        if self.filesystem is not None:
            words += f"; the running guest's file system has {human(self.filesystem)} now"
        notes = [f"the guest still has the old size: {self.pending}"] if self.pending else []
        return [f"data disk      {words}", *(f"note           {note}" for note in [*notes, self.note] if note)]


@dataclass(frozen=True)
class ResizeReport:
    """What was resized.

    Attributes:
        sizes: what was asked for.
        disk: what happened to the data disk; none when it was not asked for.
        running: whether the instance runs, so that its processors and memory have not changed yet.
        booted: whether there is a latest boot to repeat.
    """

    instance: str
    sizes: Sizes
    disk: DiskReport | None
    running: bool
    booted: bool

    def lines(self) -> list[str]:
        """The report as text."""
        lines = []
        if self.sizes.cpus is not None:
            lines.append(f"cpus           {self.sizes.cpus}, from the next boot on")
        if self.sizes.memory is not None:
            lines.append(f"memory         {self.sizes.memory} MiB, from the next boot on")
        return [*lines, *(self.disk.lines() if self.disk else []), f"next           {self._next()}"]

    def _next(self) -> str:
        option = Instance(self.instance).option
        again = f"inv {'restart' if self.booted else 'boot'}{option}"
        if self.disk is not None and self.disk.pending and self.sizes.data_disk is not None:
            return f"inv resize{option} --disk {exact(self.sizes.data_disk)} asks the guest again; {again} applies all of it"
        if not self.running:
            return again
        waiting = self.sizes.cpus is not None or self.sizes.memory is not None
        return f"{again} applies processors and memory: the instance runs" if waiting else f"inv status{option}"


def resize(name: str, sizes: Sizes, patience: float = growth.PATIENCE) -> ResizeReport:
    """Store sizes of an instance for its later boots; its data disk grows at once, that of a running guest with it.

    Args:
        name: the instance.
        sizes: what to change.
        patience: seconds that a running guest has to grow its file system.

    Raises:
        UsageError: the disk is larger already.
        InstanceError: there is no such instance, it is deleted, or another command is at it; or the host's disk refuses.
    """
    instance = Instance(name)
    if instance.state() in (State.ABSENT, State.DELETED):
        raise InstanceError(f"there is no instance `{name}`", hint="`inv list` shows those there are; `inv boot` makes one.")
    disk, pending = None, ""
    with instance.claim("resize"):
        state = instance.settled_state()
        if state is State.STALE:
            recover(instance)
        running = instance.alive
        if sizes.data_disk is not None:
            before = disk_size(instance.data_disk)
            _enlarge(instance, sizes.data_disk, running=running)
            pending = _show(instance, state) if running else ""
            disk = DiskReport(before, disk_size(instance.data_disk), pending=pending, note=_room(instance))
        chosen = sizes.model_dump(exclude_none=True, exclude={"data_disk"})
        write_sizes(instance, read_sizes(instance).model_copy(update=chosen))
    if disk is not None and running and not pending:
        # Not under the claim: `status` and `stop` need not wait for the guest.
        disk = _told(instance, disk, patience)
    return ResizeReport(name, sizes, disk, running, latest_profile(instance) is not None)


def _enlarge(instance: Instance, size: int, *, running: bool) -> None:
    if running and not instance.data_disk.exists():
        message = f"the data disk of instance `{instance.name}` is gone, although it runs: {instance.data_disk}"
        raise InstanceError(
            message, hint=f"Copy out what you need, then `inv stop{instance.option}`: its next boot makes a new disk."
        )
    refuse_smaller(instance.data_disk, size)
    ensure_data_disk(instance.data_disk, size)


def _show(instance: Instance, state: State) -> str:
    """Show the running guest its disk's size; why it will not grow its file system now, empty when it can be asked to."""
    record = instance.record
    if state is State.UNFINISHED or record is None:
        return "the command that booted it was killed"
    try:
        growth.show_to_guest(instance, record)
    except InstanceError as error:
        return str(error)
    return "QEMU holds it" if state is State.PAUSED else ""


def _told(instance: Instance, disk: DiskReport, patience: float) -> DiskReport:
    record = instance.record
    if record is None:
        return disk
    try:
        found = growth.grow_in_guest(instance, record, disk.size, patience)
    except InstanceError as error:
        return replace(disk, pending=str(error))
    return replace(disk, filesystem=found)


def _room(instance: Instance) -> str:
    """A note when the host cannot hold all that the disk may come to take; it takes it only as the guest writes."""
    missing = disk_size(instance.data_disk) - used_bytes(instance.data_disk)
    free = shutil.disk_usage(instance.directory).free
    if free >= missing:
        return ""
    words = f"the disk may come to take {human(missing)} more, and this machine has {human(free)} free"
    return f"{words}: make room before the guest needs it"
