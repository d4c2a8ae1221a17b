"""What an instance keeps from one boot to the next: its sizes, what the latest boot was asked for, and a deleted one's data.

A deleted instance whose data is kept has the mark `deleted`. The mark is made first and everything else goes then: whoever comes
after a killed command finds a deleted instance, and what is left of it goes before its next boot.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from pydantic import ValidationError

from cofferdam.errors import InstanceError
from cofferdam.machine.disk import disk_size
from cofferdam.machine.hostos import write_json, write_private
from cofferdam.machine.instance import Instance
from cofferdam.machine.settings import BootSettings, Sizes, boot_option

SNAPSHOTS = "snapshots"
_SIZES, _LATEST = "settings.json", "latest.json"
# A disk only grows, so what a boot asked for must not be asked for again after a later, larger size.
# Once it is sealed anew, the TPM opens it.
_NOT_AGAIN = {"name", "data_disk", "recovery_key"}


def read_sizes(instance: Instance) -> Sizes:
    """The sizes stored for an instance.

    Raises:
        InstanceError: the file is damaged.
    """
    path = instance.directory / _SIZES
    try:
        return Sizes.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Sizes()
    except (ValidationError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def write_sizes(instance: Instance, sizes: Sizes) -> None:
    """Store sizes for later boots; cpus and memory that the latest boot chose for itself give way to them.

    The caller holds the claim.
    """
    write_json(instance.directory / _SIZES, sizes.model_dump(exclude_none=True))
    chosen = {key for key, value in sizes.model_dump().items() if value is not None}
    if (asked := _read_latest(instance)) is not None and chosen & asked.model_fields_set:
        _write_latest(instance, asked, without=chosen)


def completed(instance: Instance, settings: BootSettings) -> BootSettings:
    """The settings of a boot, with stored sizes where it chose none itself.

    Raises:
        InstanceError: the stored sizes are damaged.
    """
    stored = read_sizes(instance).model_dump(exclude_none=True)
    chosen = {key for key in settings.model_fields_set if getattr(settings, key) is not None}
    if stored.get("data_disk", 0) <= disk_size(instance.data_disk):
        stored.pop("data_disk", None)
    return settings.model_copy(update={key: value for key, value in stored.items() if key not in chosen})


def remember(instance: Instance, settings: BootSettings) -> None:
    """Store what a boot that went well was asked for. The caller holds the claim."""
    _write_latest(instance, settings, without=_NOT_AGAIN)
    sizes = read_sizes(instance)
    if sizes.data_disk is not None:
        # The disk has its size now, and keeps it.
        write_json(instance.directory / _SIZES, sizes.model_dump(exclude_none=True, exclude={"data_disk"}))


def latest(instance: Instance) -> BootSettings:
    """What the latest boot that went well was asked for.

    Raises:
        InstanceError: there was none, or the file is damaged.
    """
    found = _read_latest(instance)
    if found is None:
        hint = f"Boot it: `inv boot{instance.option}`, with --profile for another than `default`."
        raise InstanceError(f"instance `{instance.name}` was never booted", hint=hint)
    return found


def otherwise(instance: Instance, settings: BootSettings) -> list[str]:
    """The options that ask for something else than the latest boot did; what is not asked for may be anything.

    Raises:
        InstanceError: what it was asked for is damaged.
    """
    known = _read_latest(instance) or BootSettings()
    asked = settings.model_fields_set - _NOT_AGAIN
    return [boot_option(key) for key in sorted(asked) if getattr(settings, key) != getattr(known, key)]


def latest_profile(instance: Instance) -> str | None:
    """The profile of the latest boot; none when it is not known."""
    with contextlib.suppress(InstanceError):
        return latest(instance).profile
    return None


def _read_latest(instance: Instance) -> BootSettings | None:
    path = instance.directory / _LATEST
    try:
        found = BootSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    return found.model_copy(update={"name": instance.name})


def _write_latest(instance: Instance, settings: BootSettings, without: set[str]) -> None:
    values = settings.model_dump(mode="json", include=settings.model_fields_set - _NOT_AGAIN - without)
    if settings.policy is not None:
        values["policy"] = str(settings.policy.absolute())
    write_json(instance.directory / _LATEST, values)


def _damaged(path: Path, error: Exception) -> InstanceError:
    return InstanceError(f"{path} is damaged: {error}", hint="Remove the file; what it chose takes its default again.")


def has_data(instance: Instance) -> bool:
    """Whether there is a data disk or a snapshot to keep."""
    return (
        instance.data_disk.exists() or instance.hyperv_directory.exists() or any((instance.directory / SNAPSHOTS).glob("*.raw"))
    )


def bury(instance: Instance) -> None:
    """Delete an instance but for its data disk and snapshots. The caller holds the claim and has stopped it."""
    write_private(instance.deleted_mark, "")
    _remove_rest(instance)


def take_again(instance: Instance) -> list[str]:
    """Make a deleted instance one that can boot with the kept data; says so. The caller holds the claim."""
    if not instance.deleted_mark.exists():
        return []
    _remove_rest(instance)
    instance.deleted_mark.unlink()
    return ["the data disk of the deleted instance of this name is used again"]


def _remove_rest(instance: Instance) -> None:
    kept = {
        instance.data_disk,
        # What opens it.
        instance.tpm_state,
        instance.recovery_key,
        instance.hyperv_directory,
        instance.directory / SNAPSHOTS,
        instance.deleted_mark,
        instance.claim_lock.path,
        instance.life.path,
    }
    for path in set(instance.directory.iterdir()) - kept:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
