"""Errors a user can act on: one root, one class a kind, each with its next step and exit status."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class CofferdamError(Exception):
    """Root of every error that is reported without a traceback.

    Args:
        message: what went wrong, in one sentence.
        hint: the next step for the user, empty when there is none.
        log: file that holds the full output of what failed.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", log: Path | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.log = log


class UsageError(CofferdamError):
    """A wrong argument."""

    exit_code = 2


class ProfileError(CofferdamError):
    """A profile that cannot be read or does not validate."""

    exit_code = 2


class HostError(CofferdamError):
    """The host lacks something that the work needs."""

    exit_code = 3


class BuildError(CofferdamError):
    """A build stage failed."""

    exit_code = 4


class BootError(CofferdamError):
    """The virtual machine did not start or did not get ready."""

    exit_code = 5


class InstanceError(CofferdamError):
    """The instance is not in the state that the verb needs."""

    exit_code = 6
