"""Stores of inner engines (see modifiers/stores.py) whose container is gone."""

from __future__ import annotations

import os

from cofferdam_guest.runtime.paths import DOCKER_ROOT, STORES

_AT_ONCE = 100


def sweep(docker_root: str = DOCKER_ROOT, root: str = STORES) -> None:
    """Remove the stores of containers that dockerd no longer knows, in a process of its own: nobody waits for it."""
    try:
        names = os.listdir(root)
        known = set(os.listdir(docker_root + "/containers")) if names else set()
    except OSError:
        return
    gone = [f"{root}/{each}" for each in names if each not in known][:_AT_ONCE]
    if gone:
        # the caller's pipes must not stay open for as long as this takes
        quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
        os.posix_spawn("/usr/bin/rm", ["rm", "--recursive", "--force", *gone], {}, file_actions=quiet, setsid=True)
