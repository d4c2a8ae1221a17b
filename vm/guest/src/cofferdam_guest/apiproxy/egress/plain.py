"""A plain http request on its way: its head for the next hop, and its body, framed anew.

One request a connection: a second one could name another host, and would be read by the next hop without being judged here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from cofferdam_guest.apiproxy.egress.target import Target
from cofferdam_guest.apiproxy.egress.upstream import Upstream
from cofferdam_guest.apiproxy.http.heads import Head, malformed
from cofferdam_guest.apiproxy.http.requests import RequestReader
from cofferdam_guest.apiproxy.http.transport import Stream

# Of this hop alone, or set anew.
_DROPPED = frozenset(
    b"connection expect host keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer upgrade".split()
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head_for(head: Head, target: Target, upstream: Upstream | None) -> bytes:
    """The request's head as the target, or the company's proxy, gets it."""
    named = _DROPPED.union(head.words(b"connection"))
    if named & {b"content-length", b"transfer-encoding"}:
        raise malformed("connection names the body's length")
    where = f"http://{target.authority}{target.path}" if upstream else target.path or "/"
    lines = [f"{head.method} {where} HTTP/1.1".encode("ascii"), b"host: " + target.authority.encode("ascii")]
    lines += [name + b": " + value for name, value in head.fields if name not in named]
    if upstream and upstream.authorization:
        lines.append(b"proxy-authorization: " + upstream.authorization.encode("ascii"))
    return b"\r\n".join((*lines, b"connection: close", b"", b""))


async def body_of(head: Head, reader: RequestReader, client: Stream) -> AsyncIterator[bytes]:
    """The request's body as it goes on the wire. Raises Denied, OSError."""
    chunked = head.get(b"transfer-encoding") is not None
    if reader.expects_continue and not reader.done:
        await client.write(CONTINUE)
    while True:
        for piece in reader.body():
            if piece:
                yield b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
        if reader.done:
            break
        reader.receive(await client.read())
    if chunked:
        yield b"0\r\n\r\n"
