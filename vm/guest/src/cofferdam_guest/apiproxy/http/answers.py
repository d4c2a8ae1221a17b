"""Heads of dockerd's answers, and answers of the proxy's own."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import NamedTuple

END = b"\r\n\r\n"
LIMIT = 256 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n]*?)[ \t]*")
# Of one connection alone: the proxy has its own with the client.
_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"upgrade"))


class BadAnswer(Exception):
    """What dockerd sent is not an answer in HTTP."""


class AnswerHead(NamedTuple):
    """Status, reason and fields (names in small letters) of an answer."""

    status: int
    reason: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field."""
        return next((value for key, value in self.fields if key == name), None)

    def body_length(self, method: str) -> int | None:
        """Bytes of the body; -1 when it is chunked, None when it ends with the connection."""
        if method == "HEAD" or self.status in (204, 304) or self.status < 200:
            return 0
        if self.get(b"transfer-encoding") == b"chunked":
            return -1
        length = self.get(b"content-length")
        return int(length) if length is not None and length.isdigit() else None


def parse(data: bytes) -> AnswerHead:
    """Take an answer's head apart; `data` ends before the empty line. Raises BadAnswer."""
    first, *lines = data.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise BadAnswer("no status line")
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadAnswer("a header field that is none")
        fields.append((match[1].lower(), match[2]))
    return AnswerHead(int(status[1]), status[2] or b"", tuple(fields))


def render(head: AnswerHead, *, close: bool = False, upgrade: bool = False) -> bytes:
    """The head as the client gets it: the fields of dockerd's connection replaced by those of the client's own."""
    lines = [b"HTTP/1.1 %d %s" % (head.status, head.reason)]
    lines += [b"%s: %s" % field for field in head.fields if field[0] not in _HOP]
    if upgrade:
        lines += [b"Connection: Upgrade", b"Upgrade: " + (head.get(b"upgrade") or b"tcp")]
    elif close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + END


def own(status: int, document: object, *, close: bool = False, body: bool = True) -> bytes:
    """An answer of the proxy's own, in JSON; without its body for HEAD."""
    data = json.dumps(document).encode("ascii")
    fields = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(data))]
    head = AnswerHead(status, HTTPStatus(status).phrase.encode(), tuple(fields))
    return render(head, close=close) + (data if body else b"")
