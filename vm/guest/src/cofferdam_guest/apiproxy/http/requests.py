"""Requests of one client connection, sans-io: bytes in, heads and bodies out.

The framing of a body that is looked at is h11's; that of one which goes on unread is `framing`'s.
"""

from __future__ import annotations

from collections.abc import Iterator

import h11

from cofferdam_guest.apiproxy.http.framing import Chunked, Counted
from cofferdam_guest.apiproxy.http.heads import END, LIMIT, Head, malformed, parse

# Go's clients send a chunk of 32 KiB in three writes: each is a read here, and must not become a write of its own.
_ENOUGH = 64 * 1024
_CUT_OFF = "the connection ended inside a body"


class RequestReader:
    """Takes what a client sends; one request at a time.

    Call `receive` with bytes, then `head` until it returns one, then `body` until `done`, then `head` again. Instead of `body`:
    `stream` once, then `pieces`.
    What came after an upgrade request stays in the buffer: `take_rest` hands it over once there is a tunnel.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._connection: h11.Connection | None = None
        self._framing: Counted | Chunked | None = None
        self._pieces: list[memoryview] = []
        self.done = True
        """The present request has been read to its end."""

    def receive(self, data: bytes) -> None:
        """Add bytes from the client; none means that the client has gone, which is an error inside a body. Raises Denied."""
        if self.done:
            self._buffer += data
        elif self._framing is None:
            self._feed(data)
        elif data:
            self._frame(data)
        else:
            raise malformed(_CUT_OFF)

    def head(self) -> Head | None:
        """The next request's head when it has arrived.

        Raises:
            Denied: it is malformed or too large. The connection cannot be used any further.
        """
        end = self._buffer.find(END)
        if end < 0:
            if len(self._buffer) > LIMIT or b"\n\n" in self._buffer or self._buffer.startswith((b"\r", b"\n")):
                raise malformed("no end of the head")
            return None
        if end > LIMIT:
            raise malformed("the head is too large")
        head = parse(bytes(self._buffer[:end]))
        raw, rest = bytes(self._buffer[: end + len(END)]), bytes(self._buffer[end + len(END) :])
        self._buffer.clear()
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT * 2)
        self.done = False
        try:
            self._connection.receive_data(raw)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise malformed(str(error)) from error
        if not isinstance(event, h11.Request):
            raise malformed("no request")
        if rest:
            self._feed(rest)
        return head

    @property
    def begun(self) -> bool:
        """A next request's first bytes are here."""
        return bool(self._buffer)

    @property
    def held(self) -> int:
        """Bytes that have arrived after the present request."""
        return len(self._buffer)

    @property
    def expects_continue(self) -> bool:
        """The client waits for `100 Continue` before it sends the body."""
        return self._connection is not None and self._connection.they_are_waiting_for_100_continue

    def body(self) -> Iterator[bytes]:
        """Pieces of the body that have arrived; ends when more has to be received, or when `done` is set.

        Raises:
            Denied: the framing is broken.
        """
        while not self.done:
            assert self._connection is not None
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as error:
                raise malformed(str(error)) from error
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                if list(event.headers):
                    raise malformed("trailers are not taken")
                self._finish(self._connection.trailing_data[0])
            else:
                raise malformed(_CUT_OFF)

    def stream(self, head: Head) -> None:
        """Have `pieces` hand out the body of the present request, whose head this is, in the place of `body`. Raises Denied."""
        assert self._connection is not None
        chunked = head.get(b"transfer-encoding") is not None
        self._framing = Chunked() if chunked else Counted(int(head.get(b"content-length") or 0))
        self._frame(self._connection.trailing_data[0])

    def pieces(self) -> list[memoryview]:
        """What has arrived of the stream since the last call. A chunk's beginning waits for its end, or for much of it."""
        if isinstance(self._framing, Chunked) and self._framing.left and sum(map(len, self._pieces)) < _ENOUGH:
            return []
        pieces, self._pieces = self._pieces, []
        return pieces

    @property
    def left(self) -> int:
        """Bytes of a stream of known length that are still to come. Whoever relays them past this reader says so to `relayed`."""
        return self._framing.left if isinstance(self._framing, Counted) else 0

    def relayed(self, count: int) -> None:
        """So many bytes went past, and no more will come. Raises Denied: that was not all of it."""
        if count != self.left:
            raise malformed(_CUT_OFF)
        self._finish(b"")

    def take_rest(self) -> bytes:
        """What has arrived after the present request; it leaves the reader."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _feed(self, data: bytes) -> None:
        assert self._connection is not None
        try:
            self._connection.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise malformed(str(error)) from error

    def _frame(self, data: bytes) -> None:
        assert self._framing is not None
        self._pieces += self._framing.take(data)
        if self._framing.done:
            self._finish(self._framing.rest)

    def _finish(self, rest: bytes) -> None:
        self._buffer += rest
        self._connection = self._framing = None
        self.done = True
