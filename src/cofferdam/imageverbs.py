"""What the verbs of other images do (boot --image, update, rollback), between the menu and the packages behind it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cofferdam.dayverbs import chart, check_output, plotted, write_output
from cofferdam.errors import UsageError
from cofferdam.machine import api
from cofferdam.machine import update as updating
from cofferdam.machine.boot import refuse_running
from cofferdam.machine.facts import host_system
from cofferdam.machine.hosts.choice import choose
from cofferdam.machine.instance import Instance
from cofferdam.machine.kept import read_kept
from cofferdam.machine.settings import BootSettings, boot_settings
from cofferdam.progress import Progress
from cofferdam.timings import read_timings
from cofferdam.verbs import show, show_json

# What reads images and releases is imported where it is used: the menu must not wait for it.
if TYPE_CHECKING:
    from cofferdam.image.model import Image

LATEST = "latest"
"""In the place of a directory: the latest image that was built here."""


def boot(
    *,
    as_json: bool = False,
    timings: bool = False,
    plot: str = "",
    image: str = "",
    key: str = "",
    unverified: bool = False,
    **options: object,
) -> None:
    """Boot an instance with command line values and report how to reach Docker.

    Args:
        as_json: for scripts.
        timings: also where the time went.
        plot: SVG file for where the time went.
        image: a release folder, or `latest`; see `named_image`.
        key: allowed_signers file.
        unverified: whatever `inv verify` says.
        options: settings of the boot.
    """
    follow, progress = image == LATEST, Progress()
    settings = boot_settings(**options, image="" if follow else image)
    if plot:
        check_output(Path(plot))
    chosen = named_image(settings, key, unverified=unverified, progress=progress)
    if follow:
        chosen = _latest(settings.profile)
    report = api.boot(settings, progress, chosen, follow=follow)
    measured = read_timings(Instance(report.instance)) if timings or plot else None
    if as_json:
        show_json(report.as_dict() | ({"timings": measured.as_dict()} if measured else {}))
    else:
        show([*report.lines(), *(measured.lines() if measured else [])])
    if measured and plot:
        # The machine runs, and how to reach it is said, whatever becomes of its chart.
        write_output(Path(plot), chart(measured))
        if not as_json:
            show(plotted(plot))


def named_image(settings: BootSettings, key: str, *, unverified: bool, progress: Progress) -> Image | None:
    """The installed image of `boot --image`; none when no image was named, or it is the disk of a machine of Hyper-V.

    Raises:
        CofferdamError: it is not accepted; see `from_directory`.
    """
    from cofferdam.install.source import Wanted, from_directory

    place = settings.image
    if place is None:
        if key or unverified:
            raise UsageError("--key and --unverified are for --image", hint="Name a release: --image DIR.")
        return None
    if choose(settings, host_system()).native:
        _accept_disk(place, key, unverified=unverified, progress=progress)
        return None
    instance = Instance(settings.name)
    refuse_running(instance, instance.state())
    profile = settings.profile if "profile" in settings.model_fields_set else ""
    return from_directory(place, Wanted(profile, _path(key), unverified), progress)


def _accept_disk(place: Path, key: str, *, unverified: bool, progress: Progress) -> None:
    """Refuse a disk that is not in a release folder which verifies."""
    from cofferdam.release.verify import NotVerifiedError, trusted

    folder = place if place.is_dir() else place.parent
    try:
        trusted(folder, _path(key))
    except NotVerifiedError as error:
        if not unverified:
            raise NotVerifiedError(str(error), hint=f"{error.hint} Only if you mean it: --unverified.") from error
        progress.line(f"NOT VERIFIED   {error}")


def _latest(profile: str) -> Image:
    from cofferdam.image.model import load_image

    return load_image(profile)


def update(
    name: str,
    *,
    image: str = "",
    registry: str = "",
    key: str = "",
    allow_downgrade: bool = False,
    snapshot: bool = False,
    as_json: bool = False,
) -> None:
    """Update an instance and say what it boots now.

    Args:
        name: of the instance.
        image: a release folder, or `latest` for what was built here.
        registry: reference of a release in a registry.
        key: allowed_signers file.
        allow_downgrade: also to an older version.
        snapshot: copy the data disk before.
        as_json: for scripts.

    Raises:
        UsageError: options that exclude each other, or none although the instance boots a release.
        CofferdamError: see `cofferdam.machine.update.update` and `cofferdam.install.source`.
    """
    if image and registry:
        raise UsageError("--image and --from are two places", hint="Leave one of them out.")
    progress, instance = Progress(), Instance(name)
    said = updating.settle(instance)
    for line in said:
        progress.line(f"note           {line}")
    new = _new_image(instance, image, registry, key, progress)
    outcome = updating.update(name, new, progress, allow_downgrade=allow_downgrade, snapshot=snapshot)
    _tell(outcome, said, as_json=as_json)


def rollback(name: str, *, as_json: bool = False) -> None:
    """Go back to the former image and say what the instance boots now.

    Raises:
        InstanceError: there is none.
        CofferdamError: see `cofferdam.machine.update.rollback`.
    """
    progress = Progress()
    said = updating.settle(Instance(name))
    for line in said:
        progress.line(f"note           {line}")
    _tell(updating.rollback(name, progress), said, as_json=as_json)


def _new_image(instance: Instance, image: str, registry: str, key: str, progress: Progress) -> Image:
    from cofferdam.install.source import Wanted, from_directory, from_registry

    current = read_kept(instance).current
    wanted = Wanted(current.profile if current else "", _path(key))
    if registry:
        return from_registry(registry, wanted, progress)
    if image and image != LATEST:
        return from_directory(Path(image).expanduser().absolute(), wanted, progress)
    if key:
        raise UsageError("--key is for --image DIR and --from", hint="Name a release, or leave it out.")
    if current and current.installed and not image:
        hint = f"Name the next one: --image DIR or --from REFERENCE. `--image {LATEST}` takes what was built here."
        raise UsageError(f"instance `{instance.name}` boots an image that was not built here: {current.words}", hint=hint)
    return _latest(current.profile if current else "default")


def _path(word: str) -> Path | None:
    return Path(word).expanduser().absolute() if word else None


def _tell(outcome: updating.Outcome, notes: list[str], *, as_json: bool) -> None:
    report = outcome.report
    if as_json:
        values = {"instance": outcome.instance, "updated": report is not None, "self_test": outcome.seen}
        values |= {"before": outcome.before.model_dump(), "after": outcome.after.model_dump(), "snapshot": outcome.snapshot}
        show_json(values | {"notes": notes, "boot": report.as_dict() if report else None})
        return
    option = Instance(outcome.instance).option
    if report is None:
        show(f"{outcome.instance:<14} boots {outcome.before.words} already: there is nothing to do")
        return
    show(report.lines())
    show(f"self-test      {outcome.seen}")
    show(f"updated        from {outcome.before.words} to {outcome.after.words}")
    show(f"next           inv rollback{option} goes back to {outcome.before.label}, with the same data")
