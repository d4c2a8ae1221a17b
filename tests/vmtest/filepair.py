"""Programs of two containers at the same files, in `./together` of a shared directory; and the program that runs all rows.

Usage: python3 -m vmtest.filepair root|user|partner, in the shared directory, which has these modules. `root` and `user` print
{row: what happened}; `partner` is the other container. Each row has a directory of its own below `root` or `user`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import sys
import time
from typing import Any

import vmtest.filenames  # noqa: F401 - adds its rows
from vmtest.filedata import IN_CREATE, events, watch
from vmtest.fileops import ROWS, outcome, put, read, row

PATIENCE = 240
LINES, CLAIMED, REPLACED = 500, 100, 200
MODULES = ("fileops", "filenames", "filedata", "filepair", "fileverify")
"""What has to be in the `vmtest` directory of the share."""


def wait_for(path: str) -> None:
    """Wait until the other one has made a file."""
    end = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(errno.ETIMEDOUT, path)
        time.sleep(0.01)


def log_lines(who: str) -> None:
    fd = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(LINES):
        os.write(fd, f"{who} {number:05}\n".encode())
    os.close(fd)


def claim_names() -> int:
    """How many of these names were made here, and not by the other one."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    opened = [
        fd for number in range(CLAIMED) if isinstance(fd := outcome(lambda number=number: os.open(f"name-{number}", flags)), int)
    ]
    for fd in opened:
        os.close(fd)
    return len(opened)


def partner() -> None:
    """The other container: holds locks and a map, and does what needs two at the same time."""
    os.makedirs("together", exist_ok=True)
    os.chdir("together")
    with open("flock", "w") as whole, open("range", "w") as part, open("map", "w+b") as shared:
        fcntl.flock(whole, fcntl.LOCK_EX)
        fcntl.lockf(part, fcntl.LOCK_EX, 10, 0)
        shared.truncate(mmap.PAGESIZE)
        with mmap.mmap(shared.fileno(), 0) as view:
            put("settings", "0" * 5000), put("ready")
            wait_for("go")
            log_lines("partner")
            put("claimed", str(claim_names()))
            for number in range(REPLACED):
                os.replace(put("settings.new", str(number % 10) * 5000), "settings")
            view[:7] = b"partner"
            put("done")
            wait_for("answered")
            put("seen", view[100:106].decode())
        wait_for("waiting")
    put("released")


@row(["EAGAIN", "EAGAIN", None, 2 * LINES, True, CLAIMED, 0, "partner", "answer", True])
def two_containers() -> list[Any]:
    """Locks, appended lines, exclusive names, settings replaced under a reader, one map, a lock that is waited for, inotify."""
    os.chdir("../../together")
    wait_for("ready")
    watched = watch()
    with open("flock", "w") as whole, open("range", "w") as part, open("map", "r+b") as shared:
        busy = fcntl.LOCK_EX | fcntl.LOCK_NB
        said = [outcome(lambda: fcntl.flock(whole, busy)), outcome(lambda: fcntl.lockf(part, busy, 10, 5))]
        said.append(outcome(lambda: fcntl.lockf(part, busy, 10, 10)))
        put("go")
        log_lines("main")
        ours, torn = claim_names(), 0
        while not os.path.exists("done"):
            text = read("settings")
            torn += len(text) != 5000 or len(set(text)) != 1
        wait_for("claimed")
        lines = read("log").splitlines()
        expected = {f"{who} {number:05}" for who in ("main", "partner") for number in range(LINES)}
        said += [len(lines), set(lines) == expected, ours + int(read("claimed")), torn]
        with mmap.mmap(shared.fileno(), 0) as view:
            said.append(view[:7].decode())
            view[100:106] = b"answer"
        put("answered"), wait_for("seen")
        said.append(read("seen"))
        put("waiting")
        fcntl.flock(whole, fcntl.LOCK_EX)
        fcntl.lockf(part, fcntl.LOCK_EX, 10, 0)
        wait_for("released")
        return [*said, (IN_CREATE, "done") in events(watched)]


def main(who: str) -> None:
    if who == "partner":
        partner()
        return
    top, found = os.path.join(os.getcwd(), who), {}
    for name, (function, _) in ROWS[who].items():
        os.makedirs(f"{top}/{name}")
        os.chdir(f"{top}/{name}")
        found[name] = outcome(function)
    print(json.dumps(found, default=repr))


if __name__ == "__main__":
    main(sys.argv[1])
