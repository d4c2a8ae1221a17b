"""Tell the user and the journal why something was refused; telling never fails the caller."""

from __future__ import annotations

import os
import sys

from cofferdam_guest.config import jsonlite
from cofferdam_guest.linux import journal
from cofferdam_guest.runtime.paths import DOCKER_ROOT


def user_line(message: str, now: float) -> str:
    """Return the JSON line that containerd's shim and BuildKit look for in the runtime's log."""
    import time

    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    return jsonlite.dumps({"level": "error", "msg": message, "time": stamp}) + "\n"


def tell_user(message: str, log: str | None) -> None:
    """Append the error to the file of --log and to standard error."""
    import time

    line = user_line(message, time.time())
    if log:
        try:
            fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            sys.stderr.write(f"{log}: {error}\n")
    sys.stderr.write(line)


def image_of(container: str, docker_root: str = DOCKER_ROOT) -> str:
    """Return the image's name as the user gave it, by dockerd's own record; empty for builds and for unknown containers."""
    try:
        with open(f"{docker_root}/containers/{container}/config.v2.json", "rb") as file:
            return str(jsonlite.loads(file.read().decode("utf-8"))["Config"]["Image"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def refused(rule: str, reason: str, container: str, bundle: str, socket_path: str = journal.SOCKET) -> None:
    """Send one structured event about a refusal to the journal and to the host."""
    fields = {
        "MESSAGE": f"refused container {container}: {reason}",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "cofferdam",
        "COFFERDAM_EVENT": "refused",
        "COFFERDAM_RULE": rule,
        "COFFERDAM_CONTAINER": container,
        "COFFERDAM_IMAGE": image_of(container),
        "COFFERDAM_BUNDLE": bundle,
        "COFFERDAM_REASON": reason,
    }
    journal.refused(fields, socket_path)
