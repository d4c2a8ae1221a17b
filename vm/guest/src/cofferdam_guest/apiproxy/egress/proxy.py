"""The way out for dockerd's own requests (pull, push, a build's FROM and ADD): a forward proxy that knows the registries.

It listens on the VM's loopback and takes CONNECT and plain http. dockerd is told of it by its proxy settings; what Go never sends
through a proxy (the VM's own localhost) and git by ssh go past it. A refused CONNECT says why in its reason phrase, which Go's
http client makes the error.
"""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass

from cofferdam_guest.apiproxy.audit import Audit
from cofferdam_guest.apiproxy.egress import dial, plain, target
from cofferdam_guest.apiproxy.egress.addresses import Rule, may_reach
from cofferdam_guest.apiproxy.egress.flow import Idle, both, pump
from cofferdam_guest.apiproxy.egress.hosts import Hosts
from cofferdam_guest.apiproxy.egress.target import Target
from cofferdam_guest.apiproxy.egress.upstream import NoWay, Upstreams
from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.http.acceptor import Acceptor
from cofferdam_guest.apiproxy.http.heads import Head
from cofferdam_guest.apiproxy.http.requests import RequestReader
from cofferdam_guest.apiproxy.http.transport import PlainStream
from cofferdam_guest.config.policy import Policy

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_CODES = {400: "BAD_REQUEST", 403: "DENIED", 415: "UNSUPPORTED", 502: "UNAVAILABLE", 503: "TOOMANYREQUESTS"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long: connections at a time; seconds for a head, without a byte, and without a byte when half closed."""

    connections: int = 256
    head: float = 10.0
    idle: float = 600.0
    half_closed: float = 60.0


class EgressProxy:
    """The proxy.

    Args:
        policy: the effective policy; its `registries` and `proxies` count.
        rule: which addresses may be connected to.
        limits: see Limits.
        audit: who is told of refusals.
    """

    def __init__(self, policy: Policy, rule: Rule = may_reach, limits: Limits = Limits(), audit: Audit | None = None) -> None:
        self._hosts = Hosts(() if policy.denied else policy.registries)
        self._upstreams = Upstreams(policy.proxies)
        self._rule, self._limits, self._audit = rule, limits, audit or Audit()
        self._acceptor: Acceptor | None = None

    def listen(self, host: str, port: int) -> int:
        """Bind; returns the port. Raises OSError."""
        listener = socket.create_server((host, port), backlog=128)
        listener.setblocking(False)
        # the second half of the room is for those that are being told that there is none
        self._acceptor = Acceptor(listener, self._serve, 2 * self._limits.connections)
        return int(listener.getsockname()[1])

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._listening.run()

    @property
    def _listening(self) -> Acceptor:
        assert self._acceptor is not None, "listen first"
        return self._acceptor

    async def _serve(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        await self._request(PlainStream(connection), f"{peer[0]}:{peer[1]}")

    async def _request(self, client: PlainStream, peer: str) -> None:
        head: Head | None = None
        try:
            if self._listening.count > self._limits.connections:
                raise Denied(503, "egress-connections", "too many connections at a time")
            reader = RequestReader()
            async with asyncio.timeout(self._limits.head):
                head = await _head(client, reader)
            if head is not None:
                await self._forward(head, reader, client)
        except Denied as verdict:
            self._audit.refused("egress", peer, verdict, *((head.method, head.target.decode("ascii")) if head else ()))
            await self._refuse(client, verdict.status, verdict.message)
        except NoWay as error:
            await self._refuse(client, 502, str(error))

    async def _forward(self, head: Head, reader: RequestReader, client: PlainStream) -> None:
        where = target.of(head)
        self._judge(where)
        if where.is_tunnel:
            await self._tunnel(where, reader, client)
        else:
            await self._plain(where, head, reader, client)

    def _judge(self, where: Target) -> None:
        if not self._hosts.allow(where):
            raise dial.refusal(where, "registry")
        # Behind a company's proxy the name is resolved there; an address, and this machine's own name, are judged here.
        literal = str(where.address) if where.address else "127.0.0.1" if _is_local(where.host) else None
        if literal and not self._hosts.list_by_name(where) and not self._rule(literal):
            raise dial.refusal(where, "registry-address")

    async def _direct(self, where: Target) -> PlainStream:
        listed = where.address is not None and self._hosts.list_by_name(where)
        return await dial.direct(where, _any_address if listed else self._rule)

    async def _tunnel(self, where: Target, reader: RequestReader, client: PlainStream) -> None:
        for _ in reader.body():
            pass  # a CONNECT has none; what follows it is the tunnel's
        upstream = self._upstreams.choose(where)
        rest = b""
        if upstream:
            server, rest = await dial.tunnel_by_proxy(where, upstream)
        else:
            server = await self._direct(where)
        try:
            await client.write(ESTABLISHED + rest)
            if early := reader.take_rest():
                await server.write(early)
            idle = Idle(self._limits.idle)
            await both(pump(client, server, idle), pump(server, client, idle), idle, self._limits.half_closed)
        finally:
            server.close()

    async def _plain(self, where: Target, head: Head, reader: RequestReader, client: PlainStream) -> None:
        upstream = self._upstreams.choose(where)
        request = plain.head_for(head, where, upstream)
        server = await (dial.by_proxy(upstream) if upstream else self._direct(where))
        idle = Idle(self._limits.idle)

        async def upload() -> None:
            await server.write(request)
            async for piece in plain.body_of(head, reader, client):
                idle.touch()
                await server.write(piece)
                idle.touch()

        try:
            await both(upload(), pump(server, client, idle), idle, None)
        finally:
            server.close()

    async def _refuse(self, client: PlainStream, status: int, message: str) -> None:
        reason = message.encode("ascii", "replace").translate(None, b"\r\n")[:300]
        body = json.dumps({"errors": [{"code": _CODES.get(status, "DENIED"), "message": message}]}).encode() + b"\n"
        fields = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close" % len(body)
        async with asyncio.timeout(self._limits.head):
            await client.write(b"HTTP/1.1 %d %s\r\n%s\r\n\r\n%s" % (status, reason, fields, body))
            await client.end()
            # Closing with bytes unread would reset the connection and could take the answer with it.
            while await client.read():
                pass


async def _head(client: PlainStream, reader: RequestReader) -> Head | None:
    while (head := reader.head()) is None:
        data = await client.read()
        if not data:
            return None
        reader.receive(data)
    return head


def _is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _any_address(_: str) -> bool:
    return True


async def serve(policy: Policy, host: str, port: int) -> None:
    """Listen and serve until cancelled. Raises OSError when the port cannot be had."""
    proxy = EgressProxy(policy)
    proxy.listen(host, port)
    await proxy.run()
