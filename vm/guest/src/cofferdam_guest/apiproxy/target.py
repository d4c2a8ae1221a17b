"""The request target: from the bytes of the request line to a path, a version and a query, and back.

dockerd matches the decoded path, redirects `//` and dot segments, and takes `[0-9.]+` for a version. A target that two readers
could take for two different things is refused here, and what is sent to dockerd is written anew from what was understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from cofferdam_guest.apiproxy.errors import Denied

LIMIT = 64 * 1024
"""Longest target in bytes: a build carries its arguments and labels in the query."""

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ENCODED_SYNTAX = re.compile(rb"%(2[EeFf5]|5[Cc])")
_ENCODED_SLASH = re.compile(rb"%2[Ff]")
_IMAGE_NAME = re.compile(rb"\A(?:/v[0-9.]+)?/(?:images|distribution)/[^/]+")
_RAW = re.compile(rb"[!-~]+")
_VERSION = re.compile(r"v1\.[0-9]{2}")
_VERSION_LIKE = re.compile(r"[vV][0-9.]*")
_OLDEST = "v1.24"
_PATH_SAFE = "/:@-._~!$&'()*+,="


@dataclass(frozen=True)
class Target:
    """What a client asks for.

    Attributes:
        path: decoded, without the version: `/containers/json`.
        version: `1.45`, or None when the client named none.
        query: decoded pairs in the client's order.
    """

    path: str
    version: str | None
    query: list[tuple[str, str]]


def parse(target: bytes) -> Target:
    """Return what a request target means.

    Args:
        target: the bytes between the method and `HTTP/1.1`.

    Raises:
        Denied: 400, anything but one plain origin-form target.
    """
    if len(target) > LIMIT:
        raise _bad(f"is longer than {LIMIT} bytes")
    if not target.startswith(b"/"):
        raise _bad("must begin with /; absolute and authority forms are not served")
    if not _RAW.fullmatch(target):
        raise _bad("holds a control, blank or non-ASCII byte; encode it as %XX")
    if b"#" in target:
        raise _bad("holds a fragment")
    raw_path, mark, raw_query = target.partition(b"?")
    path, version = _split_version(_path(raw_path))
    return Target(path, version, _query(raw_query) if mark else [])


def forwarded(target: Target) -> str:
    """Return the target that dockerd gets: the same meaning in its one canonical spelling."""
    prefix = f"/v{target.version}" if target.version else ""
    query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in target.query)
    return prefix + quote(target.path, safe=_PATH_SAFE) + (f"?{query}" if query else "")


def _bad(why: str) -> Denied:
    return Denied(400, "request-target", f"malformed request: the target {why}")


def _path(raw: bytes) -> str:
    """The decoded path. Raises Denied for a path that could be read in two ways."""
    if _BAD_ESCAPE.search(raw):
        raise _bad("has a % that no two hexadecimal digits follow")
    # docker-java, and so Testcontainers, writes an image's name as one segment; what comes of it is judged like any other path
    raw = _IMAGE_NAME.sub(lambda name: _ENCODED_SLASH.sub(b"/", name[0]), raw)
    if _ENCODED_SYNTAX.search(raw):
        raise _bad("encodes one of / \\ . % in its path; write these plainly")
    decoded = unquote_to_bytes(raw)
    if not _RAW.fullmatch(decoded):
        raise _bad("encodes a control, blank or non-ASCII byte in its path")
    path = decoded.decode("ascii")
    for what in ("\\", ";", "?", "#"):
        if what in path:
            raise _bad(f"has a {what} in its path")
    segments = path.split("/")[1:]
    if "" in segments:
        raise _bad("has an empty path segment or a trailing /")
    if "." in segments or ".." in segments:
        raise _bad("has a dot segment in its path")
    return path


def _split_version(path: str) -> tuple[str, str | None]:
    """The path without its version, and the version. Raises Denied for what dockerd alone would take for a version."""
    first, slash, rest = path[1:].partition("/")
    if _VERSION.fullmatch(first):
        if not slash:
            raise _bad("names a version and nothing below it")
        if first < _OLDEST:
            raise _bad(f"names API version {first[1:]}; the oldest one served is {_OLDEST[1:]}")
        return f"/{rest}", first[1:]
    if _VERSION_LIKE.fullmatch(first):
        raise _bad(f'has "{first}" where only /v1.NN is a version')
    return path, None


def _query(raw: bytes) -> list[tuple[str, str]]:
    """The decoded pairs. Raises Denied."""
    if b";" in raw:
        raise _bad("has a ; in its query; separate parameters by &")
    if _BAD_ESCAPE.search(raw):
        raise _bad("has a % in its query that no two hexadecimal digits follow")
    pairs = (piece.partition(b"=") for piece in raw.split(b"&") if piece)
    return [(_component(key), _component(value)) for key, _, value in pairs]


def _component(raw: bytes) -> str:
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("has a query that is not UTF-8") from None
    if "\0" in text:
        raise _bad("has a NUL in its query")
    return text
