"""One request to dockerd, on a connection of its own: nothing of one request can be taken for a part of another."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

import h11

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.http.answers import END, LIMIT, AnswerHead, BadAnswer, parse
from cofferdam_guest.apiproxy.http.transport import PlainStream

Fields = Iterable[tuple[bytes, bytes]]
_LESS = "close some, or try again in a moment"


async def connect(path: str) -> Backend:
    """A connection to dockerd's socket. Raises Denied (503): it is not there, not yet, or there is no room for it."""
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise Denied(503, "no-room", f"the API proxy has too many connections ({error.strerror}); {_LESS}") from error
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, path)
    except OSError as error:
        connection.close()
        text = f"the Docker engine of this VM is not running ({error.strerror}); try again in a moment"
        raise Denied(503, "no-engine", text) from error
    return Backend(PlainStream(connection))


class Backend:
    """A connection to dockerd that carries one request."""

    def __init__(self, stream: PlainStream) -> None:
        self.stream = stream
        self.rest = b""
        """What came behind the answer's head: the beginning of its body or of a tunnel."""

    async def send(self, method: str, target: str, fields: Fields, body: bytes = b"") -> None:
        """Send the request's head, and its body when that is at hand. Raises BadAnswer: dockerd does not take it."""
        lines = [b"%s %s HTTP/1.1" % (method.encode("ascii"), target.encode("ascii")), b"Host: docker"]
        lines += [b"%s: %s" % field for field in fields]
        try:
            await self.stream.write(b"\r\n".join(lines) + END, body)
        except OSError as error:
            raise BadAnswer(str(error)) from error

    async def answer(self) -> AnswerHead:
        """The answer's head; interim ones are passed over. Raises BadAnswer."""
        buffer = bytearray(self.rest)
        while True:
            end = buffer.find(END)
            if end >= 0:
                head = parse(bytes(buffer[:end]))
                del buffer[: end + len(END)]
                if head.status != 100:
                    self.rest = bytes(buffer)
                    return head
                continue
            if len(buffer) > LIMIT:
                raise BadAnswer("no end of the head")
            data = await self._read()
            if not data:
                raise BadAnswer("the connection ended")
            buffer += data

    async def whole_body(self, head: AnswerHead, method: str, limit: int) -> bytes:
        """A body that is to be looked at. Raises BadAnswer: broken, or larger than `limit` bytes."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "docker")]))
        parser.send(h11.EndOfMessage())
        fields = b"".join(b"%s: %s\r\n" % field for field in head.fields)
        body = bytearray()
        try:
            parser.receive_data(b"HTTP/1.1 %d x\r\n" % head.status + fields + b"\r\n" + self.rest)
            while not isinstance(event := parser.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    parser.receive_data(await self._read())
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > limit:
                        raise BadAnswer("the body is too large")
                elif not isinstance(event, h11.Response):
                    raise BadAnswer("the connection ended")
        except h11.RemoteProtocolError as error:
            raise BadAnswer(str(error)) from error
        return bytes(body)

    async def _read(self) -> bytes:
        """What comes next; nothing at the end. Raises BadAnswer."""
        try:
            return await self.stream.read()
        except OSError as error:
            raise BadAnswer(str(error)) from error

    def close(self) -> None:
        """Close the connection; dockerd ends what it did for it."""
        self.stream.close()
