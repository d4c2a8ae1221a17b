"""Whether an image is one to update to: its version against that of the image an instance boots. Nothing is read here."""

from __future__ import annotations

from typing import ClassVar

from packaging.version import InvalidVersion, Version

from cofferdam.errors import CofferdamError, UsageError
from cofferdam.machine.imageref import ImageRef

_ALLOW = "Only if you mean it: --allow-downgrade; the data disk may have been used by the newer one."


class DowngradeError(CofferdamError):
    """An image that is older than the one an instance boots, or of which nobody can say that it is not."""

    exit_code: ClassVar[int] = 1


def order(one: str, other: str) -> int | None:
    """Which of two versions is newer: negative when the first is older, 0 when neither is; none when they cannot be compared."""
    if one == other:
        return 0
    try:
        first, second = Version(one), Version(other)
    except InvalidVersion:
        return None
    return (first > second) - (first < second)


def something_to_do(current: ImageRef, new: ImageRef, *, allow_downgrade: bool = False) -> bool:
    """Whether an instance is to be updated from one image to another; false when it boots that very image.

    Images that were built here have no version, and so are neither older nor newer than any other.

    Raises:
        UsageError: they are of different profiles.
        DowngradeError: the new one is older, cannot be compared, or has the same version and other contents.
    """
    if new.directory == current.directory:
        return False
    if new.profile != current.profile:
        hint = "Boot another instance with it: `inv boot --name OTHER --image DIR`."
        raise UsageError(f"the image is of the profile {new.profile}, the instance boots {current.profile}", hint=hint)
    if allow_downgrade or not (current.version and new.version):
        return True
    found = order(new.version, current.version)
    if found is None:
        raise DowngradeError(f"nobody can say whether {new.version} is newer than {current.version}", hint=_ALLOW)
    if found == 0:
        what = f"{new.version} is the version that the instance boots, with other contents"
        raise DowngradeError(what, hint=f"Versions do not change: ask who released it. {_ALLOW}")
    if found < 0:
        raise DowngradeError(f"{new.version} is older than {current.version}, which the instance boots", hint=_ALLOW)
    return True
