"""The VHDX that is booted: the one that was named, or the one that was built."""

from __future__ import annotations

from pathlib import Path

from cofferdam.errors import UsageError
from cofferdam.machine.settings import BootSettings
from cofferdam.paths import cache_home

_SIGNATURE = b"vhdxfile"


def find_vhdx(settings: BootSettings) -> Path:
    """The VHDX of a boot.

    `--image` may be the file, or a directory in which there is one; else it is looked for beside the built image of the profile.

    Raises:
        UsageError: there is none, more than one, or something else than a VHDX.
    """
    place = settings.image or cache_home() / "images" / settings.profile
    found = [place] if place.is_file() else sorted(place.glob("*.vhdx")) if place.is_dir() else []
    if len(found) > 1:
        found = [path for path in found if path.stem.endswith(f"-{settings.profile}")] or found
    if not found:
        made = f"`inv build-vm --profile {settings.profile} --format vhdx` makes one"
        hint = f"{made}, on Linux; copy it here and name it: --image FILE."
        raise UsageError(f"--hyperv --native boots a VHDX, and there is none: {place}", hint=hint)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UsageError(f"--image {place}: there are several VHDX: {names}", hint="Name one: --image FILE.")
    with found[0].open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise UsageError(f"{found[0]} is not a VHDX", hint="`inv build-vm --format vhdx` makes one, on Linux.")
    return found[0].absolute()
