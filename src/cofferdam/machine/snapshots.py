"""Snapshots: whole copies of a stopped instance's data disk, one file each in `snapshots/LABEL.raw` of its directory."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine.boot import recover
from cofferdam.machine.disk import copy_disk, human, temporary_copy, used_bytes
from cofferdam.machine.hostos import private_directory
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.stored import SNAPSHOTS

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_REST = (State.STOPPED, State.DELETED)


@dataclass(frozen=True)
class Snapshot:
    """One snapshot.

    Attributes:
        label: its name.
        path: the file.
        size: bytes of the disk.
        used: bytes that the file takes on the host; blocks shared with the disk count as well.
        taken: when, UTC, ISO 8601.
    """

    label: str
    path: Path
    size: int
    used: int
    taken: str

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**asdict(self), "path": str(self.path)}

    def line(self) -> str:
        """The snapshot as text."""
        return f"{self.label:<14} {self.taken}  {human(self.used)} of {human(self.size)}"


def save(name: str, label: str) -> Snapshot:
    """Copy the data disk of a stopped instance.

    Raises:
        UsageError: not a label.
        InstanceError: no such instance or no disk, it runs, the label exists, or there is no room.
    """
    check_label(label)
    with _at_rest(name, "save a snapshot") as instance:
        return save_claimed(instance, label)


def save_claimed(instance: Instance, label: str) -> Snapshot:
    """The same for a command that holds the claim of an instance which does not run.

    Raises:
        InstanceError: there is no disk, the label exists, or there is no room.
    """
    target = _path(instance, label)
    if target.exists():
        hint = f"Take another label, or `inv snapshot.delete{instance.option} --label {label}` first."
        raise InstanceError(f"instance `{instance.name}` already has a snapshot `{label}`", hint=hint)
    if not instance.data_disk.exists():
        raise InstanceError(f"instance `{instance.name}` has no data disk yet", hint=f"`inv boot{instance.option}` makes it.")
    private_directory(target.parent)
    copy_disk(instance.data_disk, target)
    return _snapshot(target)


def restore(name: str, label: str) -> Snapshot:
    """Put a copy of a snapshot in the place of the data disk, in one step; what the disk holds now is lost.

    Raises:
        UsageError: not a label.
        InstanceError: no such instance or snapshot, it runs, or there is no room.
    """
    check_label(label)
    with _at_rest(name, "restore a snapshot") as instance:
        found = _existing(instance, label)
        copy_disk(found.path, instance.data_disk)
        return found


def snapshots(name: str) -> list[Snapshot]:
    """The snapshots of an instance, by label.

    Raises:
        InstanceError: there is no such instance.
    """
    return _all(_instance(name))


def delete(name: str, label: str) -> Snapshot:
    """Delete a snapshot; the instance may run.

    Raises:
        UsageError: not a label.
        InstanceError: no such instance or snapshot, or another command is at the instance.
    """
    check_label(label)
    instance = _instance(name)
    with instance.claim("delete the snapshot"):
        found = _existing(instance, label)
        found.path.unlink()
        return found


def check_label(label: str) -> None:
    """Refuse a text that cannot be a label.

    Raises:
        UsageError: it cannot.
    """
    if not _LABEL.fullmatch(label):
        hint = "Use up to 64 lower-case letters and digits, with dots, hyphens and underscores inside."
        raise UsageError(f"`{label}` cannot be a snapshot's label", hint=hint)


def _instance(name: str) -> Instance:
    instance = Instance(name)
    if not instance.directory.is_dir():
        raise InstanceError(f"there is no instance `{name}`", hint="`inv list` shows those there are.")
    return instance


@contextmanager
def _at_rest(name: str, work: str) -> Iterator[Instance]:
    """The instance, claimed; its disk is not in use, and what killed commands left of copies is gone."""
    instance = _instance(name)
    with instance.claim(work):
        if instance.settled_state() is State.STALE:
            recover(instance)
        state = instance.settled_state()
        if state not in _REST:
            hint = f"`inv stop{instance.option}` first: a snapshot is a copy of a disk that nobody writes to."
            raise InstanceError(f"instance `{name}` is {state}", hint=hint)
        for path in (temporary_copy(instance.data_disk), *(instance.directory / SNAPSHOTS).glob(".*.new")):
            path.unlink(missing_ok=True)
        yield instance


def _path(instance: Instance, label: str) -> Path:
    return instance.directory / SNAPSHOTS / f"{label}.raw"


def _all(instance: Instance) -> list[Snapshot]:
    paths = (instance.directory / SNAPSHOTS).glob("*.raw")
    return [_snapshot(path) for path in sorted(paths) if _LABEL.fullmatch(path.stem)]


def _snapshot(path: Path) -> Snapshot:
    status = path.stat()
    taken = datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC).isoformat(timespec="seconds")
    return Snapshot(path.stem, path, status.st_size, used_bytes(path), taken)


def _existing(instance: Instance, label: str) -> Snapshot:
    path = _path(instance, label)
    if path.exists():
        return _snapshot(path)
    labels = [snapshot.label for snapshot in _all(instance)]
    near = difflib.get_close_matches(label, labels, 3) or labels
    hint = f"There are: {', '.join(near)}." if labels else f"`inv snapshot.save{instance.option} --label LABEL` makes one."
    raise InstanceError(f"instance `{instance.name}` has no snapshot `{label}`", hint=hint)
