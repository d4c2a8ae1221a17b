"""Which format the data disk has: a number at the end of its file system's label, none for the first.

The label is in the superblock, so both the guest and the host read it before anybody mounts the disk or writes to it.
"""

FORMAT = 1
"""What this version makes. To be raised when an older guest could damage, or would not understand, what is on the disk."""

NAME = "cofferdam-data"
_LONGEST = 16
"""Bytes of an ext4 label: room for two digits."""


def label(number: int) -> str:
    """The label of a disk of that format."""
    return NAME if number == 1 else f"{NAME}{number}"


def number(text: str) -> int | None:
    """The format of a disk with that label; None when it is not one of ours."""
    if text == NAME:
        return 1
    digits = text.removeprefix(NAME)
    ours = text.startswith(NAME) and len(text) <= _LONGEST and digits.isascii() and digits.isdecimal()
    # Written in one way only, as everything that is compared.
    return int(digits) if ours and digits[0] != "0" and digits != "1" else None
