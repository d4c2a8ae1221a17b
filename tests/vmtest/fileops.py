"""What programs expect of files, as rows: a function and what it has to give; run in containers with the standard library alone.

The rows are in filenames.py, filedata.py and filepair.py, which runs them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
ROWS: dict[str, dict[str, tuple[Callable[[], Any], Any]]] = {"root": {}, "user": {}}


def row(expected: Any, who: str = "root") -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Add a function to the rows of a user, with what it has to give: a value, or `errno`'s name of its error."""

    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        ROWS[who][function.__name__] = function, expected
        return function

    return add


def outcome(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def libc(name: str, *arguments: Any) -> int:
    done = int(getattr(LIBC, name)(*arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), name)
    return done


def put(path: str, text: str = "") -> str:
    with open(path, "w") as file:
        file.write(text)
    return path


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def mode(path: str) -> str:
    return oct(stat.S_IMODE(os.lstat(path).st_mode))
