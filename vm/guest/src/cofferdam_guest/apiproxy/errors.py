"""The one exception of the proxy: a request that dockerd will not see."""

from __future__ import annotations


class Denied(Exception):
    """A verdict against a request.

    Args:
        status: HTTP status of the answer: 400 malformed, 403 policy, 404 and 405 unknown route, 413 too large, 415 encoding,
            502 and 503 no dockerd.
        rule: short id of the rule, for the journal.
        message: what the client prints; names the rule and what to do, where there is something to do.
    """

    def __init__(self, status: int, rule: str, message: str) -> None:
        super().__init__(message)
        self.status, self.rule, self.message = status, rule, message
