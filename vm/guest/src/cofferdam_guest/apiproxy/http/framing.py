"""Where a body ends that goes on unread, sans-io: bytes in, views of its payload out.

h11 frames the bodies that are judged. It copies each byte several times, which would be most of what a stream costs.

Source: RFC 9112 section 6.3 (length) and 7.1 (chunks).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cofferdam_guest.apiproxy.http.heads import malformed

END = b"0\r\n\r\n"
"""The last chunk, without trailers."""

_LINE = 4096
_SIZE = rb"([0-9A-Fa-f]{1,15})(?:[ \t]{0,100}|;[^\x00-\x08\x0a-\x1f\x7f]{0,4000})\r\n"
_FIRST, _FURTHER, _LAST = (re.compile(pattern) for pattern in (_SIZE, rb"\r\n" + _SIZE, rb"\r\n"))


class Counted:
    """A body of a known length.

    Attributes:
        left: bytes that are still to come.
        rest: what came behind them.
    """

    def __init__(self, length: int) -> None:
        self.left, self.rest = length, b""

    @property
    def done(self) -> bool:
        """All of it has arrived."""
        return not self.left

    def take(self, data: bytes) -> list[memoryview]:
        """The payload in what has arrived."""
        piece = memoryview(data)[: self.left]
        self.left -= len(piece)
        self.rest = data[len(piece) :]
        return [piece] if piece else []


class Chunked:
    """A body in chunks. What is said beside their sizes is dropped; trailers are refused.

    Attributes:
        left: bytes of the present chunk that are still to come.
        done: all of it has arrived.
        rest: what came behind it; until then the beginning of a line.
    """

    def __init__(self) -> None:
        self.done, self.rest = False, b""
        self.left, self._line = 0, _FIRST

    def take(self, data: bytes) -> list[memoryview]:
        """The payload in what has arrived. Raises Denied: these are no chunks."""
        data, at = self.rest + data, 0
        view, pieces = memoryview(data), []
        while at < len(data) and not self.done:
            if self.left:
                pieces.append(view[at : at + self.left])
                self.left -= len(pieces[-1])
                at += len(pieces[-1])
            elif match := self._line.match(data, at):
                self._read(match)
                at = match.end()
            elif len(data) - at > _LINE or b"\n" in data[at + len(b"\r\n") :]:
                raise malformed("trailers are not taken" if self._line is _LAST else "a chunk without a size")
            else:
                break
        self.rest = data[at:]
        return pieces

    def _read(self, match: re.Match[bytes]) -> None:
        """Take in a line, which follows the end of the one before or of a chunk."""
        if self._line is _LAST:
            self.done = True
        else:
            self.left = int(match[1], 16)
            self._line = _FURTHER if self.left else _LAST


def chunk(pieces: Sequence[memoryview]) -> list[bytes | memoryview]:
    """Pieces of a payload as one chunk. There must be some: an empty chunk is the last one."""
    return [b"%x\r\n" % sum(map(len, pieces)), *pieces, b"\r\n"]
