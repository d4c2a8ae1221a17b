"""The verbs of the virtual machine, as `tasks.py`, the tests and other tools call them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine import boot as booting
from cofferdam.machine import stop as stopping
from cofferdam.machine.console import ConsoleWatch, last_lines
from cofferdam.machine.context import context_name, environment
from cofferdam.machine.dataformat import luks_label, refuse_newer
from cofferdam.machine.delete import DeleteReport
from cofferdam.machine.delete import delete as delete_instance
from cofferdam.machine.disk import used_bytes
from cofferdam.machine.facts import host_system
from cofferdam.machine.handover import handover
from cofferdam.machine.hosts.choice import choose
from cofferdam.machine.hyperv import native
from cofferdam.machine.imageref import ImageRef, reference
from cofferdam.machine.instance import Instance, Record, State, instances
from cofferdam.machine.kept import Kept, read_kept
from cofferdam.machine.launch import BootImage
from cofferdam.machine.ports.start import ensure_keeper, published
from cofferdam.machine.prepare import prepare
from cofferdam.machine.report import BootReport
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.shares.server import ended
from cofferdam.machine.ssh import USER, ssh_arguments
from cofferdam.machine.stop import StopReport
from cofferdam.machine.stored import latest, latest_profile
from cofferdam.machine.tpm.server import tpm_ended
from cofferdam.machine.update import settle
from cofferdam.policy import boot_policy
from cofferdam.progress import Progress
from cofferdam.run import interactive

_FOLLOW_PAUSE = 0.2
_UP = (State.RUNNING, State.PAUSED)


def boot(settings: BootSettings, progress: Progress, image: BootImage | None = None, *, follow: bool = False) -> BootReport:
    """Boot an instance; the image is the one that it keeps, else the latest one built of the settings' profile.

    An update that was interrupted is finished or undone first.

    Args:
        settings: what is asked for.
        progress: where to report.
        image: another image.
        follow: from then on boot the latest image that is built.

    Raises:
        CofferdamError: no image, or see `cofferdam.machine.prepare` and `cofferdam.machine.boot`.
    """
    instance = Instance(settings.name)
    if instance.hyperv.exists() and not choose(settings, host_system()).native:
        message = f"instance `{instance.name}` is one of Hyper-V's"
        raise InstanceError(message, hint=f"`inv stop{instance.option}` ends it; then it can be booted without --native.")
    # Before an image is looked for: there may be none of the profile that was not named.
    booting.refuse_running(instance, instance.state())
    return _judged(settings, progress, image, follow=follow)()


def _judged(
    settings: BootSettings, progress: Progress, image: BootImage | None, *, follow: bool = False
) -> Callable[[], BootReport]:
    """What is left of a boot when everything that does not depend on its instance has been judged."""
    if choose(settings, host_system()).native:
        handover(settings, boot_policy(settings.policy) if settings.policy else None)
        return lambda: native.boot(settings, progress)
    instance = Instance(settings.name)
    notes = settle(instance)
    chosen = image or image_to_boot(instance, settings)
    notes += _waiting(instance, chosen) if image is None else []
    refuse_newer(instance.data_disk, chosen.data_format, reference(chosen).label)
    prepared = prepare(settings.model_copy(update={"profile": chosen.profile}), chosen, progress)
    prepared = replace(prepared, notes=(*notes, *prepared.notes))
    return lambda: booting.boot(prepared, progress, follow=follow)


def image_to_boot(instance: Instance, settings: BootSettings) -> BootImage:
    """The image that an instance keeps, unless another profile is asked for; else the latest one that was built.

    Raises:
        BuildError: it is not there.
        InstanceError: nobody can say which one it keeps.
    """
    from cofferdam.image.model import load_image, require_kernel

    kept = read_kept(instance)
    if kept.pinned and kept.current and settings.profile in (kept.current.profile, _unasked(settings)):
        return require_kernel(kept.current.open())
    return require_kernel(load_image(settings.profile))


def _waiting(instance: Instance, chosen: BootImage) -> list[str]:
    """That another image was built, where one is booted that an update or a rollback has chosen."""
    from cofferdam.image.model import latest_link

    kept, latest_built = read_kept(instance), latest_link(chosen.profile)
    if not kept.pinned or reference(chosen).installed or latest_built.resolve() in (chosen.directory, latest_built):
        return []
    return [f"it boots the image that an update or a rollback has chosen; another one was built: `inv update{instance.option}`"]


def _unasked(settings: BootSettings) -> str | None:
    """The profile of a boot that did not ask for one."""
    return None if "profile" in settings.model_fields_set else settings.profile


def status(name: str | None = None, *, tidy: bool = True) -> list[dict[str, Any]]:
    """What every instance, or one, is doing; leftovers of killed processes are tidied up on the way, unless `tidy` is false.

    Raises:
        InstanceError: there is no instance of that name.
    """
    if name is None:
        return [_describe(instance, tidy=tidy) for instance in instances()]
    instance = Instance(name)
    if instance.state() is State.ABSENT:
        raise InstanceError(f"there is no instance `{name}`", hint="`inv status` lists those there are; `inv boot` makes one.")
    return [_describe(instance, tidy=tidy)]


def _describe(instance: Instance, *, tidy: bool = True) -> dict[str, Any]:
    if (others := native.describe(instance)) is not None:
        return others
    kept, notes = _kept(instance, tidy=tidy)
    state, note = instance.state(), ""
    if state is State.STALE and tidy:
        with instance.claim("status"):
            note = "; ".join(booting.recover(instance))
        state = instance.state()
    if state is State.UNFINISHED:
        note = f"the command that booted it was killed; `inv stop{instance.option}` or `inv boot{instance.option}` tidies up"
    if state is State.DELETED:
        note = (
            f"its data disk is kept; `inv boot{instance.option}` uses it again, `inv delete{instance.option} --data` removes it"
        )
    row: dict[str, Any] = {"name": instance.name, "state": str(state), "directory": str(instance.directory)}
    if profile := latest_profile(instance):
        row["profile"] = profile
    if kept.current is not None:
        row |= {"image": _image_row(kept.current), "pinned": kept.pinned, "former_image": _image_row(kept.former)}
        row |= {"update": kept.update.model_dump(mode="json")} if kept.update else {}
    notes += [note] if note else []
    if notes:
        row["note"] = "\n".join(notes)
    if instance.data_disk.exists():
        row["data_disk"] = {"bytes": instance.data_disk.stat().st_size, "used": used_bytes(instance.data_disk)}
        row["data_disk"]["sealed"] = luks_label(instance.data_disk) is not None
    record = instance.record
    if state not in _UP or record is None:
        return row
    notes += ensure_keeper(instance) if state is State.RUNNING else []
    ports = published(instance)
    notes += [*ports.notes, *_dead_shares(instance, record), *_dead_tpm(instance, record), *_unverified(record)]
    row |= {"note": "\n".join(notes)} if notes else {}
    there = {"socket": ports.socket} if ports.socket and not ports.socket_problem else {}
    return {**row, **_running(instance, record), **there, "ports": [port.model_dump() for port in ports.ports]}


def _kept(instance: Instance, *, tidy: bool) -> tuple[Kept, list[str]]:
    """The images of an instance, and what to tell about them; a killed update is settled on the way, unless `tidy` is false."""
    try:
        notes = settle(instance) if tidy else []
        kept = read_kept(instance)
    except InstanceError as error:
        return Kept(), [str(error)]
    if kept.under_way and not notes:
        notes = [f"an update to {kept.under_way.image.label} is under way, or was interrupted"]
    return kept, notes


def _image_row(image: ImageRef | None) -> dict[str, Any] | None:
    return image.model_dump() if image is not None else None


def _unverified(record: Record) -> list[str]:
    image = record.image
    return [f"its image {image.label} was not verified"] if image and image.installed and not image.verified else []


def _dead_shares(instance: Instance, record: Record) -> list[str]:
    """QEMU does not connect to another server: only a restart brings such a share back."""
    hint = f"containers hang on it until `inv restart{instance.option}`; see {instance.shares_log}"
    return [f"the server of the shared directory {path} has ended; {hint}" for path in ended(record)]


def _dead_tpm(instance: Instance, record: Record) -> list[str]:
    if not tpm_ended(record):
        return []
    what = "its TPM has ended: the data disk stays open and cannot be grown until"
    return [f"{what} `inv restart{instance.option}`; see {instance.tpm_log}"]


def _running(instance: Instance, record: Record) -> dict[str, Any]:
    host = f"tcp://127.0.0.1:{record.docker_port}"
    certificates = instance.credentials / "client"
    row: dict[str, Any] = {
        "profile": record.profile,
        "image": _image_row(record.image),
        "accelerator": record.accelerator,
        "why": record.why,
        "kernel": record.kernel,
        "cpus": record.cpus,
        "memory": record.memory,
        "pid": record.pid,
        "started": record.started,
        "shares": [{"path": each.path, "read_only": each.read_only} for each in record.shares],
        "policy": record.policy.model_dump() if record.policy else None,
        "seconds": record.seconds,
        "context": context_name(instance.name),
        "docker_host": host,
        "cert_path": str(certificates),
        "environment": environment(host, certificates),
    }
    if record.ssh_port and record.ssh_key:
        row["ssh"] = {
            "host": "127.0.0.1",
            "port": record.ssh_port,
            "user": USER,
            "key": record.ssh_key,
            "known_hosts": str(instance.known_hosts),
        }
    return row


def stop(name: str = "default", *, force: bool = False, timeout: float = stopping.TIMEOUT) -> StopReport:
    """Stop an instance; see `cofferdam.machine.stop.stop`."""
    if Instance(name).hyperv.exists():
        return native.stop(Instance(name), force=force)
    return stopping.stop(Instance(name), force=force, timeout=timeout)


def restart(
    name: str, progress: Progress, *, force: bool = False, image: BootImage | None = None
) -> tuple[StopReport | None, BootReport]:
    """Stop an instance when it runs, and boot it with what its latest boot was asked for and the sizes stored since.

    Everything that can be wrong with that boot before it starts is looked at first: then nothing is stopped.

    Args:
        force: do not ask the guest to stop.
        image: the latest one of the profile unless another is given.

    Returns:
        How it stopped, none when it did not run; and the boot.

    Raises:
        InstanceError: there is no such instance, or it was never booted.
        CofferdamError: see `stop` and `boot`.
    """
    instance = Instance(name)
    state = instance.state()
    if state in (State.ABSENT, State.DELETED):
        raise InstanceError(f"there is no instance `{name}`", hint=f"`inv boot{instance.option}` makes it.")
    settings = latest(instance)
    start = _judged(settings, progress, image)
    rests = state in (State.STOPPED, State.STALE) and not instance.hyperv.exists()
    stopped = None if rests else stop(name, force=force)
    return stopped, start()


def delete(name: str, *, data: bool = False) -> DeleteReport:
    """Delete an instance, stopped first when it runs; see `cofferdam.machine.delete.delete`."""
    if Instance(name).hyperv.exists():
        native.stop(Instance(name))
    return delete_instance(Instance(name), data=data)


def remove(name: str) -> None:
    """Delete an instance that does not run, with its data disk and snapshots.

    Raises:
        InstanceError: it does not exist or runs.
    """
    instance = Instance(name)
    booting.refuse_running(instance, instance.state())
    delete_instance(instance, data=True)


def logs(name: str = "default", *, lines: int = 50, follow_on: bool = False, unit: str = "") -> Iterator[str]:
    """Lines of the console; a unit's journal goes to the terminal by ssh (debug images only).

    Args:
        lines: how many of the last ones.
        follow_on: go on with new ones until the instance ends.
        unit: systemd unit.

    Raises:
        InstanceError: the instance has no log, or lets no ssh in although a unit is asked for.
    """
    instance = Instance(name)
    if unit:
        ssh(name, ["journalctl", "--no-pager", f"--unit={unit}", f"--lines={lines}", *(["--follow"] if follow_on else [])])
        return iter(())
    if not instance.console.exists():
        raise InstanceError(f"instance `{name}` has no log", hint="`inv status` lists the instances there are.")
    return _console_lines(instance, lines, follow_on)


def _console_lines(instance: Instance, lines: int, follow_on: bool) -> Iterator[str]:
    watch = ConsoleWatch(instance.console, at_end=True)
    yield from last_lines(instance.console, lines)
    while follow_on:
        alive = instance.alive
        yield from watch.new_lines()
        if not alive:
            return
        time.sleep(_FOLLOW_PAUSE)


def ssh(name: str = "default", command: Sequence[str] = ()) -> int:
    """Open a shell in a debug image, or run a command there; its exit status.

    Raises:
        InstanceError: the instance does not run, or its image has no ssh.
    """
    instance = Instance(name)
    record = instance.record
    if instance.state() not in _UP or record is None:
        raise InstanceError(f"instance `{name}` is not running", hint=f"Boot it: `inv boot --profile debug{instance.option}`.")
    if record.ssh_port is None or record.ssh_key is None:
        message = f"instance `{name}` runs the profile {record.profile}, which lets nobody in"
        raise InstanceError(message, hint="Only the profile debug has ssh: boot it with `inv boot --profile debug`.")
    return interactive(ssh_arguments(record.ssh_port, Path(record.ssh_key), instance.known_hosts, command))


__all__ = [
    "BootReport",
    "BootSettings",
    "DeleteReport",
    "StopReport",
    "UsageError",
    "boot",
    "delete",
    "logs",
    "remove",
    "restart",
    "ssh",
    "status",
    "stop",
]
