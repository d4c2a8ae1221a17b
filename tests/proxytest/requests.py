"""Requests as bytes, well-formed unless they are asked to be otherwise."""

from __future__ import annotations


def request(line: str, *fields: str, body: bytes = b"") -> bytes:
    """A request with these fields and no other but Host."""
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", *fields, "", ""]).encode() + body


def post(target: str, body: bytes, kind: str = "application/json", *fields: str) -> bytes:
    """A POST with a length; `kind` is its Content-Type, empty for none."""
    kinds = [f"Content-Type: {kind}"] if kind else []
    return request(f"POST {target}", *kinds, f"Content-Length: {len(body)}", *fields, body=body)


def status(answer: bytes) -> int:
    """The status of the first answer."""
    return int(answer.split(b" ")[1])
