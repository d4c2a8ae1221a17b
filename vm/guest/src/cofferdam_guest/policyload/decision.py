"""Which policy holds: the image's file and the one handed over at boot, or, when either is unusable, that nothing is allowed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from cofferdam_guest.config import admin, positions
from cofferdam_guest.config.admin import AdminSettings
from cofferdam_guest.config.effective import effective
from cofferdam_guest.config.findings import WARNING
from cofferdam_guest.config.policy import Policy, deny_all


class Unusable(Exception):
    """A file of the policy cannot be used; the message names it, the reason and the next step."""


@dataclass(frozen=True)
class Decision:
    """The policy, and what the journal should say about how it came to be.

    Attributes:
        policy: what holds.
        lines: warnings, a line each.
    """

    policy: Policy
    lines: tuple[str, ...] = ()


def decide(baked: str, boot: str) -> Decision:
    """Read both files and join them; never raises.

    Args:
        baked: path of the image's file, which there must be.
        boot: path of the file handed over at boot. No file is none; its directory must be there, or nobody knows.
    """
    lines: list[str] = []
    try:
        first = _settings(baked, lines)
        if first is None:
            raise Unusable(f"{baked} is missing: the image is damaged; build it again with `inv build-vm`")
        if not os.path.isdir(os.path.dirname(boot)):
            raise Unusable(f"{os.path.dirname(boot)} is missing: whether a policy was handed over at boot is unknown")
        joined = effective(first, _settings(boot, lines))
    except Unusable as error:
        return Decision(deny_all(str(error)), tuple(lines))
    except Exception as error:  # whatever it is: without a policy nothing may be allowed, and dockerd has to start to say so
        return Decision(deny_all(f"the policy could not be read: {type(error).__name__}: {error}"), tuple(lines))
    return Decision(joined.policy, (*lines, *joined.notes))


def _settings(path: str, lines: list[str]) -> AdminSettings | None:
    data = _read(path)
    if data is None:
        return None
    found = admin.read(data)
    lines += [finding.text(path) for finding in found.findings if finding.level == WARNING]
    if found.settings is None:
        others = f" (and {len(found.errors) - 1} more)" if len(found.errors) > 1 else ""
        raise Unusable(f"{found.errors[0].text(path)}{others}; `inv policy.check` shows it on the host")
    return found.settings


def _read(path: str) -> bytes | None:
    """A regular file's bytes; none when there is no file."""
    try:
        # Not blocking: a FIFO in the file's place must not hold up the boot.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Unusable(f"{path} is not a regular file")
        return _bytes(fd)
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)


def _bytes(fd: int) -> bytes:
    """All of a file, or more than a policy may have."""
    parts, size = [], 0
    while size <= positions.SIZE_LIMIT and (part := os.read(fd, 1 << 16)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
