"""One client connection: requests in turn, each judged, sent to dockerd anew, and its answer relayed.

A request reaches dockerd only when all of what is judged has been read, and on a connection of its own. The connection becomes a
tunnel only after dockerd has agreed to it; until then whatever the client sends early is kept, and is policed as a next request
when there is no tunnel.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from cofferdam_guest.apiproxy import amend
from cofferdam_guest.apiproxy.audit import Audit
from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.http.answers import AnswerHead, BadAnswer, own, render
from cofferdam_guest.apiproxy.http.backend import Backend, connect
from cofferdam_guest.apiproxy.http.framing import END, chunk
from cofferdam_guest.apiproxy.http.heads import Head
from cofferdam_guest.apiproxy.http.relay import relay, tunnel
from cofferdam_guest.apiproxy.http.requests import RequestReader
from cofferdam_guest.apiproxy.http.transport import CHUNK, Stream
from cofferdam_guest.apiproxy.plan import BODY_LIMIT, Asked, Forward, Rules, forward, understand

IDLE = 900.0
"""Seconds that a connection may wait for its next request."""
HEAD_TIME = 30.0
"""Seconds from a head's first byte to its end."""
BODY_TIME = 120.0
"""Seconds that all of a judged body may take."""
GRACE = 5.0
"""Seconds that an answer may still take after the client has ended its input."""
_REPORT = "please report it with the lines of inv logs --unit cofferdam-apiproxy.service"
_NOT_JUDGED = f"the API proxy could not judge this request ({{}}) and has not passed it on; {_REPORT}"
_NOT_ANSWERED = f"the API proxy failed while it passed this request on ({{}}), so see whether it was done; {_REPORT}"
_LINGER = 2.0
_EARLY = 256 * 1024
_RAW_STREAMS = (b"application/vnd.docker.raw-stream", b"application/vnd.docker.multiplexed-stream")


@dataclass(frozen=True)
class Service:
    """What all connections of a door share: its rules, dockerd's socket, the journal."""

    rules: Rules
    engine: str
    audit: Audit


class Gone(Exception):
    """The client has left, or is too slow."""


class Connection:
    """One client. `serve` returns when the connection is over; it never raises for what the client or dockerd do."""

    def __init__(self, stream: Stream, peer: str, service: Service) -> None:
        self._stream, self._peer, self._service = stream, peer, service
        self._reader = RequestReader()
        self._answered = False

    async def serve(self) -> None:
        """Serve until the client leaves, is refused in the middle of a body, or has got its tunnel."""
        with suppress(OSError, TimeoutError, Gone, BadAnswer):
            while await self._turn():
                pass

    async def _turn(self) -> bool:
        """One request, which gets an answer also when the proxy itself fails; whether another one may follow."""
        head, self._answered = None, False
        try:
            head = await self._head()
            return head is not None and await self._exchange(head)
        except (OSError, Gone, BadAnswer):
            raise
        except Exception as error:
            traceback.print_exception(error)
            if not self._answered:
                await self._refuse(Denied(500, "defect", _NOT_ANSWERED.format(type(error).__name__)), head, close=True)
            return False

    async def _head(self) -> Head | None:
        """The next head; None when the client has ended, or sent what is none."""
        try:
            async with asyncio.timeout(IDLE):
                while (head := self._reader.head()) is None and not self._reader.begun:
                    if not await self._more():
                        return None
            async with asyncio.timeout(HEAD_TIME):
                while head is None:
                    if not await self._more():
                        return None
                    head = self._reader.head()
        except Denied as verdict:
            await self._refuse(verdict, None, close=True)
            return None
        return head

    async def _more(self) -> bool:
        """Receive something; whether there was anything. Raises Gone, Denied."""
        try:
            data = await self._stream.read(CHUNK)
        except OSError as error:
            raise Gone from error
        self._reader.receive(data)
        return bool(data)

    async def _exchange(self, head: Head) -> bool:
        """One request; whether another one may follow."""
        try:
            asked, plan = await self._judged(head)
            backend = await connect(self._service.engine)
        except Denied as verdict:
            self._skip()
            close = not self._reader.done or head.words(b"connection") == [b"close"]
            await self._refuse(verdict, head, close=close)
            return not close
        try:
            return await self._carry(asked, plan, backend)
        except Denied as verdict:
            await self._refuse(verdict, head, close=True)
            return False
        except BadAnswer as error:
            # Nothing of an answer has been relayed yet, or `_relay` has closed the connection by raising OSError.
            text = f"the Docker engine ended while it answered: {error}"
            await self._refuse(Denied(502, "no-engine", text), head, close=True)
            return False
        finally:
            backend.close()

    async def _judged(self, head: Head) -> tuple[Asked, Forward]:
        """A request as dockerd may have it. Raises Denied, also when judging itself fails."""
        try:
            asked = understand(head, self._service.rules)
            body = await self._judged_body() if asked.reads_body else None
            return asked, await forward(asked, body, self._service.rules)
        except (Denied, Gone):
            raise
        except Exception as error:
            traceback.print_exception(error)
            raise Denied(500, "defect", _NOT_JUDGED.format(type(error).__name__)) from error

    def _skip(self) -> None:
        """Pass over what has arrived of a body that nobody wants: when that is all of it the connection can go on."""
        with suppress(Denied):
            for _ in self._reader.body():
                pass

    async def _judged_body(self) -> bytes:
        """All of the body. Raises Denied: too large, or badly framed; Gone: not in time."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIME):
                async for piece in self._body():
                    body += piece
                    if len(body) > BODY_LIMIT:
                        raise Denied(413, "body", f"the body is larger than {BODY_LIMIT} bytes, which is what can be judged")
        except TimeoutError as error:
            raise Gone from error
        return bytes(body)

    async def _body(self) -> AsyncIterator[bytes]:
        await self._invite()
        while True:
            for piece in self._reader.body():
                yield piece
            if self._reader.done:
                return
            await self._more()

    async def _invite(self) -> None:
        """Tell a client that waits for it to send the body. Raises Gone."""
        if self._reader.expects_continue:
            try:
                await self._stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError as error:
                raise Gone from error

    async def _carry(self, asked: Asked, plan: Forward, backend: Backend) -> bool:
        await backend.send(asked.head.method, plan.target, plan.fields, plan.body or b"")
        upload = asyncio.create_task(self._upload(asked, backend)) if plan.body is None else None
        try:
            head = await self._answer_head(backend, upload)
            if self._becomes_tunnel(asked, head):
                await self._tunnel(asked, head, backend)
                return False
            done = upload is None or upload.done()
            close = not done or head.body_length(asked.head.method) is None or asked.head.words(b"connection") == [b"close"]
            await self._relay(asked, head, backend, close=close)
            if not done:
                await self._linger()
            return not close
        finally:
            if upload is not None:
                upload.cancel()
                await asyncio.gather(upload, return_exceptions=True)

    async def _upload(self, asked: Asked, backend: Backend) -> None:
        """Pass a streamed body on, framed anew."""
        reader, chunked = self._reader, asked.head.get(b"transfer-encoding") is not None
        reader.stream(asked.head)
        await self._invite()
        while True:
            if pieces := reader.pieces():
                await backend.stream.write(*(chunk(pieces) if chunked else pieces))
            if reader.done:
                break
            if reader.left:
                reader.relayed(await relay(self._stream, backend.stream, reader.left))
            else:
                await self._more()
        if chunked:
            await backend.stream.write(END)

    async def _answer_head(self, backend: Backend, upload: asyncio.Task[None] | None) -> AnswerHead:
        """dockerd's answer, which may come before a body has been sent. Raises BadAnswer, Denied, and Gone: the client left."""
        answer = asyncio.create_task(backend.answer())
        gone = asyncio.create_task(self._gone(upload))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            gone.result()
            raise Gone
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    async def _gone(self, upload: asyncio.Task[None] | None) -> None:
        """Return when the client has left; what it sends early is kept, up to a limit. Raises Denied: its body is broken."""
        if upload is not None:
            try:
                await asyncio.shield(upload)
            except OSError:
                await asyncio.Event().wait()  # dockerd has heard enough: its answer is on the way
        while self._reader.held < _EARLY:
            if not await self._more():
                # The end of input looks the same whether the client has left or only has nothing to add.
                await asyncio.sleep(GRACE)
                return
        await asyncio.Event().wait()

    @staticmethod
    def _becomes_tunnel(asked: Asked, head: AnswerHead) -> bool:
        if head.status == 101:
            if not asked.upgrade:
                raise BadAnswer("an upgrade that nobody asked for")
            return True
        # Clients from before upgrades: the answer has no length, and the connection is the stream.
        raw = (head.get(b"content-type") or b"") in _RAW_STREAMS
        return asked.route.hijack == "raw" and head.status == 200 and raw and head.body_length(asked.head.method) is None

    async def _tunnel(self, asked: Asked, head: AnswerHead, backend: Backend) -> None:
        await self._say(render(head, upgrade=head.status == 101), backend.rest)
        if early := self._reader.take_rest():
            await backend.stream.write(early)
        await tunnel(self._stream, backend.stream)

    async def _relay(self, asked: Asked, head: AnswerHead, backend: Backend, *, close: bool) -> None:
        """Relay an answer. Raises OSError or Gone when it was cut off: the client must see that as well."""
        if asked.route.id in amend.AMENDMENTS and head.status == 200:
            body = await backend.whole_body(head, asked.head.method, amend.LIMIT)
            body = amend.amended(asked.route.id, body, self._service.rules.policy)
            fields = [field for field in head.fields if field[0] not in (b"content-length", b"transfer-encoding")]
            fields.append((b"content-length", b"%d" % len(body)))
            await self._say(render(head._replace(fields=tuple(fields)), close=close), body)
            return
        length = head.body_length(asked.head.method)
        await self._say(render(head, close=close), backend.rest)
        if length is not None and length >= 0:
            left = length - len(backend.rest)
            if await relay(backend.stream, self._stream, left) != left:
                raise Gone
            return
        await self._relay_to_end(backend, chunked=length == -1)

    async def _relay_to_end(self, backend: Backend, *, chunked: bool) -> None:
        """A body that ends with dockerd's connection; a chunked one that does not end as chunks do was cut off."""
        moving = asyncio.create_task(self._move(backend))
        gone = asyncio.create_task(self._gone(None))
        try:
            await asyncio.wait((moving, gone), return_when=asyncio.FIRST_COMPLETED)
            if not moving.done() or (moving.result() != END and chunked):
                raise Gone
        finally:
            for task in (moving, gone):
                task.cancel()
            await asyncio.gather(moving, gone, return_exceptions=True)

    async def _move(self, backend: Backend) -> bytes:
        """Relay all that comes; the last bytes of it."""
        tail = backend.rest[-len(END) :]
        while data := await backend.stream.read(CHUNK):
            await self._stream.write(data)
            tail = (tail + data)[-len(END) :] if len(data) < len(END) else data[-len(END) :]
        return tail

    async def _refuse(self, verdict: Denied, head: Head | None, *, close: bool) -> None:
        method, target = (head.method, head.target.decode("ascii")) if head is not None else ("", "")
        self._service.audit.refused(self._service.rules.door, self._peer, verdict, method, target)
        await self._say(own(verdict.status, {"message": verdict.message}, close=close, body=method != "HEAD"))
        if close:
            await self._linger()

    async def _say(self, *parts: bytes) -> None:
        """Send the beginning of the answer."""
        self._answered = True
        await self._stream.write(*parts)

    async def _linger(self) -> None:
        """Read on for a moment: closing on unread bytes would take the answer away from the client."""
        await self._stream.end()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER):
                while await self._stream.read(CHUNK):
                    pass
