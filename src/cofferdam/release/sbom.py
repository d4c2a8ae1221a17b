"""Bills of materials of an image, in the two formats that others read."""

from __future__ import annotations

from typing import Any

from cofferdam.cache import digest
from cofferdam.errors import UsageError
from cofferdam.image.model import Image, Ingredients

FORMATS = ("cyclonedx", "spdx")


def make_sbom(image: Image, ingredients: Ingredients, kind: str, epoch: int) -> str:
    """The bill of materials of an image; it depends on nothing but the image, the project and the time stamp.

    Args:
        image: the image.
        ingredients: what it was made with.
        kind: one of FORMATS.
        epoch: time stamp in seconds.

    Raises:
        UsageError: there is no such format.
    """
    from cofferdam.release.inventory import inventory

    found = inventory(image, ingredients)
    # Both formats want an identifier that no other document has: it is that of everything in this one.
    name = f"urn:cofferdam:sbom:{kind}:{digest([repr(found), epoch])}"
    return str(_format(kind).write(found, epoch, name))


def check_sbom(text: str, kind: str) -> list[str]:
    """What is wrong with a bill of materials by its format's own rules."""
    return list(_format(kind).problems(text))


def _format(kind: str) -> Any:
    # Each takes a second to import: only the one that is wanted.
    if kind == "cyclonedx":
        from cofferdam.release import bomcyclonedx

        return bomcyclonedx
    if kind == "spdx":
        from cofferdam.release import bomspdx

        return bomspdx
    raise UsageError(f"--format {kind}: there is no such format", hint=f"There are: {', '.join(FORMATS)}.")
