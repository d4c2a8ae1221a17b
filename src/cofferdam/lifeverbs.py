"""What the verbs of an instance's life do and print: list, restart, delete, resize, snapshots, prune."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.prompt import Confirm

from cofferdam.errors import CofferdamError, UsageError
from cofferdam.machine import api, snapshots
from cofferdam.machine.delete import runs
from cofferdam.machine.disk import human
from cofferdam.machine.instance import Instance
from cofferdam.machine.resize import resize as resize_instance
from cofferdam.machine.settings import resize_sizes
from cofferdam.progress import Progress
from cofferdam.verbs import Row, show, show_instances, show_json


def _consent(question: str, *, yes: bool) -> None:
    """Ask before something is lost.

    Raises:
        UsageError: nobody is there to answer.
        CofferdamError: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to ask on", hint="Add --yes.")
    try:
        agreed = Confirm.ask(question, console=Console(stderr=True), default=False)
    except EOFError:
        agreed = False
    if not agreed:
        raise CofferdamError("nothing was done", hint="Answer `y`, or add --yes.")


def _option(name: str) -> str:
    return Instance(name).option


def list_instances(*, as_json: bool = False) -> None:
    """Show all instances, a line each."""
    show_instances(api.status(), _lines, as_json=as_json)


def _lines(rows: list[Row]) -> None:
    table = [("NAME", "STATE", "PROFILE", "IMAGE", "DOCKER", "DATA DISK")]
    for row in rows:
        disk = row.get("data_disk")
        size = f"{human(disk['used'])} of {human(disk['bytes'])}" if disk else "-"
        words = (row["name"], row["state"], row.get("profile", "-"), _image(row), row.get("docker_host", "-"), size)
        table.append(words)
    show(_columns(table))
    show(f"note           {row['name']}: {row['note']}" for row in rows if row.get("note"))
    show("next           inv status --name NAME shows all of one")


def _image(row: Row) -> str:
    """The version of the release that an instance boots; `kept` for one of this machine that does not give way to newer ones."""
    image = row.get("image")
    return "-" if not image else image["version"] or ("kept" if row.get("pinned") else "-")


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def restart(name: str, *, force: bool = False, as_json: bool = False) -> None:
    """Stop an instance when it runs, boot it as it was booted last, report how to reach Docker."""
    progress = Progress()
    stopped, report = api.restart(name, progress, force=force)
    if as_json:
        show_json(report.as_dict())
        return
    if stopped is not None:
        show(stopped.line())
    show([*report.lines(), f"next           inv status{_option(name)}"])


def delete(name: str, *, data: bool = False, yes: bool = False) -> None:
    """Delete an instance, after a question where something that runs or holds data would be lost."""
    running = runs(Instance(name))
    if running or data:
        lost = " and ".join([*(["stop it"] if running else []), *(["remove its data disk and snapshots"] if data else [])])
        _consent(f"Delete instance {name}: {lost}?", yes=yes)
    show(api.delete(name, data=data).lines())


def resize(name: str, cpus: str, memory: str, disk: str) -> None:
    """Store sizes with command line values, grow the data disk, and say when they apply."""
    show(resize_instance(name, resize_sizes(cpus=cpus, memory=memory, data_disk=disk)).lines())


def snapshot_save(name: str, label: str) -> None:
    """Save a snapshot of the data disk."""
    snapshot = snapshots.save(name, label)
    words = f"inv snapshot.restore{_option(name)} --label {label}"
    show([snapshot.line(), f"next           inv restart{_option(name)}; {words} brings the disk back"])


def snapshot_restore(name: str, label: str) -> None:
    """Put a snapshot in the place of the data disk."""
    snapshot = snapshots.restore(name, label)
    show([f"data disk      is that of {label}, taken {snapshot.taken}", f"next           inv restart{_option(name)}"])


def snapshot_list(name: str, *, as_json: bool = False) -> None:
    """Show the snapshots of an instance."""
    found = snapshots.snapshots(name)
    if as_json:
        show_json([snapshot.as_dict() for snapshot in found])
        return
    show(snapshot.line() for snapshot in found)
    following = (
        f"inv snapshot.restore{_option(name)} --label LABEL" if found else f"inv snapshot.save{_option(name)} --label LABEL"
    )
    show(f"next           {following}{'' if found else ' makes the first'}")


def snapshot_delete(name: str, label: str) -> None:
    """Delete a snapshot."""
    snapshot = snapshots.delete(name, label)
    show([f"{label:<14} deleted, {human(snapshot.used)}", f"next           inv snapshot.list{_option(name)}"])


def prune(*, dry_run: bool = False, as_json: bool = False, yes: bool = False) -> None:
    """Remove what nothing current refers to from the build cache and the installed images, after a question; say what went."""
    from cofferdam.machine import prune as pruning

    found = pruning.plan()
    if found and not dry_run:
        size = human(sum(removal.bytes for removal in found))
        _consent(f"Remove {len(found)} entries of the build cache and of installed images, {size}?", yes=yes)
        found = pruning.remove(found)
    total = sum(removal.bytes for removal in found)
    if as_json:
        show_json({"removed": not dry_run, "bytes": total, "entries": [removal.as_dict() for removal in found]})
        return
    show(f"{human(removal.bytes):>8}  {removal.path}" for removal in found)
    words = "would be removed" if dry_run else "removed"
    following = "inv prune removes them" if dry_run and found else "inv build-vm makes again what is missing"
    show([f"total          {len(found)} entries, {total} bytes {words}", f"next           {following}"])
