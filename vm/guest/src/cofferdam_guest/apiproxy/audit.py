"""One structured event in the journal for each request that is refused."""

from __future__ import annotations

import time

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.linux import journal

_PER_SECOND = 50
_QUIET = frozenset(("no-engine", "no-room", "unknown-route"))


class Audit:
    """Tells the journal, at most so many times a second: a client must not be able to flood it."""

    def __init__(self, path: str = journal.SOCKET) -> None:
        self._path, self._second, self._count = path, 0, 0

    def refused(self, door: str, peer: str, verdict: Denied, method: str = "", target: str = "") -> None:
        """Record a refusal."""
        if verdict.rule in _QUIET or not self._room():
            return
        fields = {
            "MESSAGE": f"refused {method} {target.partition('?')[0]} from {peer}: {verdict.message}",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "cofferdam",
            "COFFERDAM_EVENT": "refused",
            "COFFERDAM_RULE": verdict.rule,
            "COFFERDAM_DOOR": door,
            "COFFERDAM_PEER": peer,
            "COFFERDAM_REQUEST": f"{method} {target.partition('?')[0]}".strip(),
            "COFFERDAM_REASON": verdict.message,
        }
        journal.refused(fields, self._path)

    def note(self, message: str, **fields: str) -> None:
        """Record something else."""
        journal.send({"MESSAGE": message, "PRIORITY": "6", "SYSLOG_IDENTIFIER": "cofferdam", **fields}, self._path)

    def _room(self) -> bool:
        now = int(time.monotonic())
        self._count = self._count + 1 if now == self._second else 1
        self._second = now
        return self._count <= _PER_SECOND
