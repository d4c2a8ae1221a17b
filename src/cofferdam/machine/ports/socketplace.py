"""The place of a Unix socket on the desktop: whether there may be one, and whether nobody else's is there."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine.hostos import WINDOWS

# What every system takes; Linux alone would take four more.
LONGEST = 103
_PATIENCE = 2.0
_OTHER = "Name a path in a directory of your own, such as --socket ~/.docker/run/cofferdam.sock."


def check_place(path: Path) -> None:
    """Whether a socket may be made at this absolute path.

    Raises:
        UsageError: it may not; the message says why.
    """
    if WINDOWS:
        hint = "Leave it out; the docker context and the DOCKER_HOST line of the report reach Docker without."
        raise UsageError("--socket: a named pipe of Windows is not offered yet", hint=hint)
    if problem := _problem(path):
        raise UsageError(f"--socket {path}: {problem}", hint=_OTHER)


def _problem(path: Path) -> str:
    if len(os.fsencode(path)) > LONGEST:
        return f"the path of a socket has at most {LONGEST} bytes"
    try:
        directory = path.parent.stat()
    except OSError as error:
        return f"the directory cannot be looked at: {error.strerror}"
    if not stat.S_ISDIR(directory.st_mode):
        return f"{path.parent} is no directory"
    if directory.st_uid != os.geteuid():
        return f"{path.parent} belongs to another user"
    if directory.st_mode & 0o002 or (directory.st_mode & 0o020 and directory.st_gid != os.getegid()):
        return f"others can write to {path.parent}"
    try:
        return "" if stat.S_ISSOCK(path.lstat().st_mode) else "something else is there, which is left alone"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"


def is_live(path: Path) -> bool:
    """Whether somebody listens there, or may: only a refused connection says that nobody does."""
    if sys.platform == "win32":
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_PATIENCE)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
        return True


def require_free(path: Path) -> None:
    """Whether a socket can be made there now.

    Raises:
        InstanceError: somebody listens there.
    """
    if is_live(path):
        hint = "Stop the program that listens there, or the other instance; or name another path."
        raise InstanceError(f"--socket {path}: another program listens there", hint=hint)


def listen(path: Path) -> socket.socket:
    """A listening socket that only this user can connect to; a stale one is replaced.

    Raises:
        UsageError, InstanceError: see `check_place`, `require_free`.
        OSError: it cannot be made.
    """
    check_place(path)
    require_free(path)
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode from the first moment on, not a moment later.
    mask = os.umask(0o177)
    try:
        server.bind(str(path))
        server.listen(512)
    except OSError:
        server.close()
        raise
    finally:
        os.umask(mask)
    return server


def remove_stale(path: Path) -> None:
    """Remove a socket on which nobody listens any more; anything else stays."""
    try:
        if stat.S_ISSOCK(path.lstat().st_mode) and not is_live(path):
            path.unlink(missing_ok=True)
    except OSError:
        return
