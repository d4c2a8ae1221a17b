"""Updates: an instance gets another image and keeps its data disk, or goes back to the former one by itself.

The steps are a table. How far they are is in the instance's `images.json`, so that the next command finishes what a killed one
began, or undoes it. The command holds the claim from the first step to the last: nobody else changes the instance meanwhile.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cofferdam.errors import BootError, BuildError, CofferdamError, InstanceError
from cofferdam.machine.boot import boot_claimed, forget, recover
from cofferdam.machine.dataformat import refuse_newer
from cofferdam.machine.door import Door
from cofferdam.machine.imageref import ImageRef, reference
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.kept import Kept, Step, read_kept, write_kept
from cofferdam.machine.newer import something_to_do
from cofferdam.machine.prepare import Prepared, prepare
from cofferdam.machine.report import BootReport
from cofferdam.machine.selftest import SelfTestError, self_test
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.snapshots import save_claimed
from cofferdam.machine.stop import stop_claimed
from cofferdam.machine.stored import latest
from cofferdam.progress import Progress

if TYPE_CHECKING:
    from cofferdam.image.model import Image

_STOP_SECONDS = 20.0
"""How long an image that failed has to power its machine off."""

_UP = (State.RUNNING, State.PAUSED)


class UpdateUndoneError(BootError):
    """An update that failed; the instance has its former image again."""


@dataclass(frozen=True)
class Outcome:
    """What came of an update.

    Attributes:
        before: the image until now.
        after: the image from now on; the same when there was nothing to do.
        seen: what the self-test saw.
        snapshot: label of the snapshot that was saved; empty for none.
        report: of the boot; none when there was nothing to do.
    """

    instance: str
    before: ImageRef
    after: ImageRef
    seen: str = ""
    snapshot: str = ""
    report: BootReport | None = None


@dataclass
class Work:
    """An update that is under way."""

    instance: Instance
    settings: BootSettings
    prepared: Prepared
    image: Image
    kept: Kept
    progress: Progress
    wants_snapshot: bool
    ran: bool = False
    report: BootReport | None = None
    seen: str = ""
    snapshot: str = ""

    def store(self, kept: Kept) -> None:
        """Take a step of the state machine."""
        write_kept(self.instance, kept)
        self.kept = kept


def _plan(work: Work) -> None:
    work.store(work.kept.planned(reference(work.image)))


def _stop(work: Work) -> None:
    if work.ran:
        work.progress.line(stop_claimed(work.instance).line())


def _snapshot(work: Work) -> None:
    if work.wants_snapshot:
        label = f"update-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
        work.snapshot = save_claimed(work.instance, label).label
        work.progress.line(f"snapshot       {work.snapshot}: the data disk as it was before")


def _boot(work: Work) -> None:
    work.report = boot_claimed(work.instance, work.prepared, work.progress)


def _booted(work: Work) -> None:
    work.store(work.kept.booted())


def _test(work: Work) -> None:
    with work.progress.stage("self-test", "a container looks at its ids"):
        work.seen = _tested(work.instance, work.image)


def _confirm(work: Work) -> None:
    work.store(work.kept.confirmed())


STEPS: tuple[tuple[str, Callable[[Work], None]], ...] = (
    ("plan", _plan),
    ("stop", _stop),
    ("snapshot", _snapshot),
    ("boot", _boot),
    ("booted", _booted),
    ("self-test", _test),
    ("confirm", _confirm),
)


def update(
    name: str,
    image: Image,
    progress: Progress,
    *,
    allow_downgrade: bool = False,
    snapshot: bool = False,
    after: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Boot an instance with another image and its own data disk; with the former image again when that does not work.

    Args:
        name: of the instance.
        image: the new image.
        progress: where to report.
        allow_downgrade: also to an older version.
        snapshot: copy the data disk before.
        after: told the name of each step when it is done.

    Raises:
        InstanceError: there is no such instance, nobody knows its image, another command is at it, or its data disk is too new.
        UsageError, DowngradeError: the image is not one to update to; see `something_to_do`.
        CofferdamError: something is missing for a boot; nothing was changed.
        UpdateUndoneError: the new image did not work.
    """
    instance, new = Instance(name), reference(image)
    current = _judged(instance, image, allow_downgrade=allow_downgrade)
    if current == new:
        return Outcome(name, current, current)
    settings = latest(instance).model_copy(update={"profile": image.profile})
    prepared = prepare(settings, image, progress)
    with instance.claim("update"):
        instance.want_stop(False)
        recover(instance)
        # Another command may have come in between; from here on none can.
        current = _judged(instance, image, allow_downgrade=allow_downgrade)
        if current == new:
            return Outcome(name, current, current)
        work = Work(instance, settings, prepared, image, read_kept(instance), progress, snapshot)
        work.ran = instance.settled_state() in _UP
        _run(work, after)
    return Outcome(name, current, new, work.seen, work.snapshot, work.report)


def rollback(name: str, progress: Progress, *, after: Callable[[str], None] = lambda _: None) -> Outcome:
    """Go back to the former image: an update like any other, with a self-test, undone when it does not work.

    Raises:
        InstanceError: there is none, or see `update`.
        CofferdamError: see `update`.
    """
    former = read_kept(Instance(name)).former
    if former is None:
        hint = "`inv update` keeps the former image, and so does a boot with another one."
        raise InstanceError(f"instance `{name}` has no former image to go back to", hint=hint)
    return update(name, former.open(), progress, allow_downgrade=True, after=after)


def settle(instance: Instance) -> list[str]:
    """Finish or undo an update whose command was killed; says which. Nothing is booted.

    Raises:
        InstanceError: the machine does not end, or the instance's images cannot be read.
    """
    begun = read_kept(instance).under_way
    if begun is None:
        return []
    if instance.claimed:
        return [f"an update to {begun.image.label} is under way"]
    with instance.claim("update"):
        kept = read_kept(instance)
        return _settled(instance, kept) if kept.under_way else []


def _settled(instance: Instance, kept: Kept) -> list[str]:
    update, record, state = kept.update, instance.record, instance.settled_state()
    assert update is not None
    label = update.image.label
    is_new = record is not None and record.image is not None and record.image.directory == update.image.directory
    if state is State.PAUSED and is_new:
        return [f"the update to {label} was interrupted, and the machine is paused: it is judged when it runs again"]
    reason = "its command was killed"
    if state is State.RUNNING and is_new:
        try:
            seen = _tested(instance, update.image.open())
        except (SelfTestError, BuildError) as error:
            reason = str(error)
        else:
            write_kept(instance, kept.booted().confirmed())
            return [f"the update to {label} was interrupted, and is finished now: {seen}"]
    if state in (State.UNFINISHED, State.STALE) or is_new:
        _end(instance)
    write_kept(instance, kept.rolled_back(reason))
    former = kept.current.label if kept.current else "the former image"
    return [f"the update to {label} was interrupted and is undone ({reason}): {former} is booted, as before"]


def _judged(instance: Instance, image: Image, *, allow_downgrade: bool) -> ImageRef:
    """The image that is booted; the new one itself when there is nothing to do."""
    current, new = _current(instance, read_kept(instance)), reference(image)
    if not something_to_do(current, new, allow_downgrade=allow_downgrade):
        return new
    refuse_newer(instance.data_disk, image.data_format, new.label)
    current.open()  # without it there would be no way back
    return current


def _current(instance: Instance, kept: Kept) -> ImageRef:
    if instance.hyperv.exists():
        raise InstanceError("a machine of Hyper-V has its image as a disk", hint="Stop it, and boot it with --image FILE.")
    if instance.state() in (State.ABSENT, State.DELETED):
        raise InstanceError(f"there is no instance `{instance.name}`", hint=f"`inv boot{instance.option}` makes it.")
    if kept.current is None:
        hint = f"Boot it once: `inv boot{instance.option}`; then there is something to go back to."
        raise InstanceError(f"nobody knows which image instance `{instance.name}` booted last", hint=hint)
    return kept.current


def _tested(instance: Instance, image: Image) -> str:
    record = instance.record
    if record is None:
        raise SelfTestError("self-test: the machine has ended")
    door = Door(f"tcp://127.0.0.1:{record.docker_port}", instance.credentials / "client")
    return self_test(door, isolated=image.isolation != "none")


def _run(work: Work, after: Callable[[str], None]) -> None:
    try:
        for name, step in STEPS:
            step(work)
            after(name)
    except Exception as error:
        if work.kept.under_way is None:
            raise
        _undo(work, error)
        raise _undone(work, error) from error
    except BaseException:
        # Interrupted: whoever does that does not want to wait for another boot.
        if work.kept.under_way is not None:
            _take_back(work, "it was interrupted")
        raise


def _take_back(work: Work, reason: str) -> None:
    if work.instance.alive:
        _end(work.instance)
    work.store(work.kept.rolled_back(reason))


def _undo(work: Work, error: Exception) -> None:
    """Go back to the former image, and boot it when it ran before and nobody has stopped it meanwhile.

    Raises:
        BootError: it does not boot either.
    """
    stopped = work.instance.stop_wanted
    _take_back(work, (str(error) or type(error).__name__).splitlines()[0])
    former = work.kept.current
    assert former is not None
    if not work.ran or stopped:
        return
    work.progress.line(f"update         failed; going back to {former.label}")
    try:
        image = former.open()
        refuse_newer(work.instance.data_disk, image.data_format, former.label)
        boot_claimed(work.instance, prepare(work.settings, image, work.progress), work.progress)
    except CofferdamError as second:
        message = (
            f"the update failed, and so did the boot of {former.label} after it:\n{second}\nThe update failed with:\n{error}"
        )
        option = work.instance.option
        hint = f"`inv boot{option}` tries the former image again; `inv diagnose{option}` collects what is known."
        raise BootError(message, hint=hint, log=second.log) from error


def _undone(work: Work, error: Exception) -> UpdateUndoneError:
    former, new = work.kept.current, reference(work.image)
    assert former is not None
    runs = work.instance.settled_state() is State.RUNNING
    now = "runs again" if runs else f"is booted by `inv boot{work.instance.option}`"
    log = error.log if isinstance(error, CofferdamError) else None
    if log is not None and runs and log == work.instance.console:
        log = Path(f"{log}.old")
    hint = f"Go on with {former.label}; report it with `inv diagnose{work.instance.option}`."
    if work.snapshot:
        hint += f" The data disk before the update is the snapshot {work.snapshot}."
    words = str(error) or type(error).__name__
    return UpdateUndoneError(
        f"the update to {new.label} failed and was undone; {former.label} {now}:\n{words}", hint=hint, log=log
    )


def _end(instance: Instance) -> None:
    """End a machine of an image that is not to be used, by its own means when it still can."""
    if instance.settled_state() in _UP:
        stop_claimed(instance, timeout=_STOP_SECONDS)
        return
    if instance.alive:
        instance.kill()
    forget(instance)


__all__ = ["STEPS", "Outcome", "Step", "UpdateUndoneError", "Work", "rollback", "settle", "update"]
