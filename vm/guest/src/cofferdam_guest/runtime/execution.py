"""`exec`: a further process of a container never gets more than the container itself has, whatever --privileged says."""

from __future__ import annotations

import os

from cofferdam_guest.config import jsonlite
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import envelope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.argv import Call


def confined(call: Call) -> list[str]:
    """Return the command line with the process description, if there is one, replaced by a confined copy.

    The copy is an anonymous file whose descriptor the low-level runtime inherits: nothing to clean up. Raises Refusal.
    """
    path = call.options.get("--process") or call.options.get("-p")
    if path is None:
        _spare_nobody(0)
        return call.words
    process = _read(path)
    confine(process, _read(f"{call.root}/{call.container}/config.json"))
    _spare_nobody(process["oomScoreAdj"])
    copy = os.memfd_create("process", 0)
    os.write(copy, jsonlite.dumps(process).encode("ascii"))
    # a later --process wins over an earlier one
    at = call.container_at
    return [*call.words[:at], "--process", f"/proc/self/fd/{copy}", *call.words[at:]]


def confine(process: dict[str, Any], config: dict[str, Any]) -> None:
    """Take from `process` what the container with `config` does not have itself."""
    envelope.clean_process(process)
    own = config["process"]
    limit = frozenset((own.get("capabilities") or {}).get("bounding") or ())
    sets = process.get("capabilities") or {}
    process["capabilities"] = {kind: [each for each in names or [] if each in limit] for kind, names in sets.items()}
    process["noNewPrivileges"] = bool(process.get("noNewPrivileges") or own.get("noNewPrivileges"))
    process["oomScoreAdj"] = max(0, own.get("oomScoreAdj") or 0, process.get("oomScoreAdj") or 0)


def _spare_nobody(score: int) -> None:
    """Leave containerd's own protection from the out-of-memory killer.

    Done by root of the VM it also sets the least value that the process inside can give itself (proc_pid_oom_score_adj(5)).
    """
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d" % score)
    finally:
        os.close(fd)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            value = jsonlite.loads(file.read().decode("utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal("exec", f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise Refusal("exec", f"{path}: not a description of a process or container")
    return value
