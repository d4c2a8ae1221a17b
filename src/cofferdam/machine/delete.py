"""Deleting an instance: all of it, or all but its data disk and snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from cofferdam.errors import InstanceError
from cofferdam.machine.boot import recover, refuse_running
from cofferdam.machine.instance import Instance, State, remove_instance, remove_leftovers
from cofferdam.machine.stop import stop
from cofferdam.machine.stored import bury, has_data

_AT_REST = (State.STOPPED, State.STALE, State.DELETED)


@dataclass(frozen=True)
class DeleteReport:
    """A deleted instance.

    Attributes:
        kept: whether there is a data disk, or snapshots, that a later boot of that name finds again.
    """

    instance: str
    kept: bool

    def lines(self) -> list[str]:
        """The report as text."""
        option = "" if self.instance == "default" else f" --name {self.instance}"
        if not self.kept:
            return [f"{self.instance:<14} deleted, nothing is left of it", f"next           inv boot{option} makes a new one"]
        return [
            f"{self.instance:<14} deleted, its data disk is kept",
            f"next           inv boot{option} uses the disk again; inv delete{option} --data removes it",
        ]


def runs(instance: Instance) -> bool:
    """Whether there is a machine that a deletion would stop."""
    return instance.hyperv.exists() or instance.state() not in (State.ABSENT, *_AT_REST)


def delete(instance: Instance, *, data: bool = False) -> DeleteReport:
    """Stop an instance when it runs, then delete it.

    Args:
        data: its data disk and snapshots as well.

    Raises:
        InstanceError: there is no such instance, another command is at it, or QEMU does not end.
    """
    state = instance.state()
    if state is State.ABSENT:
        if remove_leftovers(instance):
            return DeleteReport(instance.name, kept=False)
        raise InstanceError(f"there is no instance `{instance.name}`", hint="`inv list` shows those there are.")
    # One that is deleted already goes the same way: the command that did it may have been killed half-way.
    if state not in _AT_REST:
        stop(instance)
    with instance.claim("delete"):
        refuse_running(instance, instance.settled_state())
        recover(instance)
        kept = not data and has_data(instance)
        (bury if kept else remove_instance)(instance)
    return DeleteReport(instance.name, kept)
