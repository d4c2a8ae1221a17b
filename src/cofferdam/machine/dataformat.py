"""Judges a data disk before a boot: whether an image can use its format, told by the label of its file system or its encryption.

The label is the only thing that is read, and nothing is written: the disk is the guest's, and what is on it is not trusted.
"""

from __future__ import annotations

from pathlib import Path

from cofferdam.errors import InstanceError
from cofferdam.guestconfig import dataformat, seal

# Of an ext4 superblock: the kernel's fs/ext4/ext4.h.
_SUPERBLOCK, _MAGIC_AT, _LABEL_AT, _LABEL_BYTES = 1024, 0x38, 0x78, 16
_MAGIC = b"\x53\xef"


class NewerDataError(InstanceError):
    """A data disk that a newer image has made, or changed."""


def luks_label(path: Path) -> str | None:
    """The label of an encrypted data disk; none when it is not there, or not encrypted."""
    try:
        with path.open("rb") as disk:
            return seal.luks_label(disk.read(seal.HEAD_BYTES))
    except FileNotFoundError:
        return None


def disk_format(path: Path) -> int | None:
    """The format of a data disk, sealed or not; none when it is not there, blank, or not one of ours."""
    if (sealed := luks_label(path)) is not None:
        return dataformat.number(sealed)
    try:
        with path.open("rb") as disk:
            disk.seek(_SUPERBLOCK)
            block = disk.read(_LABEL_AT + _LABEL_BYTES)
    except FileNotFoundError:
        return None
    if len(block) < _LABEL_AT + _LABEL_BYTES or block[_MAGIC_AT : _MAGIC_AT + 2] != _MAGIC:
        return None
    return dataformat.number(block[_LABEL_AT:].split(b"\0")[0].decode("ascii", "replace"))


def refuse_newer(path: Path, known: int, label: str) -> None:
    """Raise for a disk that an image cannot use.

    Args:
        path: the disk.
        known: the newest format that the image can use.
        label: what the image is called.

    Raises:
        NewerDataError: the disk has a newer one.
    """
    found = disk_format(path)
    if found is not None and found > known:
        message = f"the data disk {path} has format {found}; the image {label} knows formats up to {known}"
        hint = "Boot the newer image that made it, or restore a snapshot from before: `inv snapshot.list`."
        raise NewerDataError(message, hint=hint)
