"""Programs that work on the data disk, run to their end."""

import os

# Without udev there is nobody to wait for, and libdevmapper makes its device nodes itself.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "DM_DISABLE_UDEV": "1"}


class DiskError(Exception):
    """The disk cannot be used; the text says why and what to do."""


def call(*argv: str, good: tuple[int, ...] = (0,)) -> None:
    """Run a program to its end.

    Raises:
        DiskError: it ended with a status other than the good ones.
    """
    status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(argv[0], argv, _ENVIRONMENT), 0)[1])
    if status not in good:
        raise DiskError(f"`{' '.join(argv)}` ended with status {status}")
