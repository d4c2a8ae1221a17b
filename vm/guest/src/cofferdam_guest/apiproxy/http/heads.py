"""Request heads, checked byte by byte before any parser sees them: what two parsers could read in two ways is refused.

Source: RFC 9112 (HTTP/1.1 message syntax) section 2.2 and 6.3; the ways around earlier filters.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cofferdam_guest.apiproxy.errors import Denied

END = b"\r\n\r\n"
LIMIT = 256 * 1024
"""Bytes of one head. Registry credentials of a build travel in it, so it is larger than usual."""

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,65536}) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")

# A second one of these could be read by one side and not by the other.
_SINGLE = frozenset(
    b"authorization content-encoding content-length content-type expect host sec-websocket-key transfer-encoding upgrade "
    b"x-registry-auth x-registry-config".split()
)


class Head(NamedTuple):
    """One request head.

    Attributes:
        method: in capitals.
        target: as sent.
        fields: names in small letters with their values, in the order sent.
    """

    method: str
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def get(self, name: bytes) -> bytes | None:
        """The value of a field that is there at most once; the first one of others."""
        return next((value for key, value in self.fields if key == name), None)

    def words(self, name: bytes) -> list[bytes]:
        """The comma-separated words of a field, in small letters."""
        values = b",".join(value for key, value in self.fields if key == name)
        return [word.strip().lower() for word in values.split(b",") if word.strip()]


def malformed(what: str) -> Denied:
    """The verdict on a request that is not plain HTTP/1.1."""
    return Denied(400, "http", f"malformed request: {what}")


def parse(data: bytes) -> Head:
    """Take a head apart.

    Args:
        data: everything before the empty line, that line not included.

    Raises:
        Denied: anything that is not exactly one well-formed HTTP/1.1 request head.
    """
    first, *lines = data.split(b"\r\n")
    if data.startswith(b"PRI * HTTP/2.0"):
        raise Denied(400, "http2", "HTTP/2 is spoken after an upgrade only")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise malformed("the request line is not METHOD TARGET HTTP/1.1")
    head = Head(match[1].decode("ascii"), match[2], tuple(_field(line) for line in lines))
    _check(head)
    return head


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = _FIELD.fullmatch(line)
    if match is None:
        raise malformed("a header field is not NAME: VALUE on one line")
    return match[1].lower(), match[2]


def _check(head: Head) -> None:
    names = [name for name, _ in head.fields]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise malformed(f"{name.decode()} is there twice")
    if b"host" not in names:
        raise malformed("host is missing")
    if head.get(b"content-encoding") not in (None, b"identity"):
        raise Denied(415, "encoding", "a request body must not be compressed: leave out Content-Encoding")
    if head.get(b"expect") not in (None, b"100-continue"):
        raise malformed("expect is not 100-continue")
    length, coding = head.get(b"content-length"), head.get(b"transfer-encoding")
    if length is not None and coding is not None:
        raise malformed("content-length and transfer-encoding together")
    if coding not in (None, b"chunked"):
        raise malformed("transfer-encoding is not chunked")
    if length is not None and not _DIGITS.fullmatch(length):
        raise malformed("content-length is not a number")
