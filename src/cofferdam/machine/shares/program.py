"""virtiofsd: this machine's own when it is new enough, else Debian's, run from a small tree of its own."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from cofferdam.errors import CofferdamError, HostError
from cofferdam.progress import Progress
from cofferdam.run import CommandError, run

OLDEST = (1, 13)
"""The first version that translates ids."""

_PLACES = ("/usr/libexec/virtiofsd", "/usr/lib/virtiofsd")
_WITHOUT = "Or boot without shared directories: `inv boot --share none`."


def virtiofsd(progress: Progress) -> list[str]:
    """The words that start it.

    Raises:
        HostError: there is none, and none can be had.
    """
    if sys.platform != "linux":
        raise HostError("directories can only be shared from Linux: virtiofsd needs it", hint="Boot with `--share none`.")
    if shutil.which("unshare") is None:
        raise HostError("`unshare` is not installed", hint=f"Install util-linux. {_WITHOUT}")
    if os.getuid() != 0 and run([*apart(os.getuid()), "true"], capture=True, check=False, timeout=60).returncode != 0:
        hint = (
            f"Allow user namespaces (kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns). {_WITHOUT}"
        )
        raise HostError("this user cannot make user namespaces, in which directories are shared", hint=hint)
    return installed() or _from_tree(progress)


def apart(uid: int) -> list[str]:
    """The words that run a program with mounts of its own, as the user `uid`.

    Anybody but root is root of a user namespace of one id there, and can change nothing but the own files.
    """
    return ["unshare", "--mount", *(() if uid == 0 else ("--user", "--map-root-user"))]


def installed() -> list[str]:
    """This machine's own, new enough; empty when there is none."""
    for path in (shutil.which("virtiofsd"), *_PLACES):
        if path and Path(path).exists() and (found := version([path])) and found >= OLDEST:
            return [path]
    return []


def version(words: list[str]) -> tuple[int, ...] | None:
    """The version that a virtiofsd tells; none when it does not work, or is old QEMU's, which has another command line."""
    try:
        text = run([*words, "--version"], capture=True, check=False, timeout=60).stdout
    except CommandError:
        return None
    match = re.search(r"virtiofsd (\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else None


def _from_tree(progress: Progress) -> list[str]:
    try:
        # What builds needs Linux and mmdebstrap; who has a virtiofsd needs neither.
        from cofferdam.machine.shares.tree import current_tree

        tree = current_tree(progress)
    except CofferdamError as error:
        hint = f"Install virtiofsd 1.13 or later. {_WITHOUT}"
        raise HostError(f"there is no virtiofsd to share directories with: {error}", hint=hint, log=error.log) from error
    (loader,) = tree.glob("usr/lib/*/ld-linux*.so.*")
    # Its own loader and libraries: those of this machine may be older.
    return [str(loader), "--library-path", str(loader.parent), str(tree / "usr/libexec/virtiofsd")]
