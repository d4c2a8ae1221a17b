"""Connections outwards: a name is resolved once, every address is judged, and only those that passed are connected to."""

from __future__ import annotations

import asyncio
import socket

from cofferdam_guest.apiproxy.egress.addresses import Rule
from cofferdam_guest.apiproxy.egress.target import Target
from cofferdam_guest.apiproxy.egress.upstream import NoWay, Upstream
from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.http.answers import END, BadAnswer, parse
from cofferdam_guest.apiproxy.http.transport import PlainStream

CONNECT_TIMEOUT = 10.0
_ANSWER_LIMIT = 64 * 1024
_ADDRESSES_LIMIT = 8


def refusal(target: Target, rule: str) -> Denied:
    """The verdict on a target, in the words of Docker's documentation. `rule` is `registry` or `registry-address`."""
    return Denied(403, rule, f"registry access to {target.shown} is not allowed")


async def direct(target: Target, rule: Rule) -> PlainStream:
    """A connection to the target.

    Raises:
        Denied: none of its addresses may be reached.
        NoWay: it has none, or none answers.
    """
    found = await _resolve(target.host, target.port)
    allowed = [each for each in found if rule(str(each[1][0]))]
    if not allowed:
        raise refusal(target, "registry-address")
    return await _first(target.host, allowed)


async def by_proxy(upstream: Upstream) -> PlainStream:
    """A connection to the company's proxy, which the policy names: its address is not judged. Raises NoWay."""
    return await _first(upstream.host, await _resolve(upstream.host, upstream.port))


async def tunnel_by_proxy(target: Target, upstream: Upstream) -> tuple[PlainStream, bytes]:
    """A tunnel to the target through the company's proxy, and what has arrived from it already. Raises NoWay."""
    stream = await by_proxy(upstream)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return stream, await _connect(stream, target, upstream)
    except (OSError, BadAnswer) as error:
        stream.close()
        raise NoWay(f"the proxy {upstream.host} does not connect to {target.shown}: {error or type(error).__name__}") from error
    except BaseException:
        stream.close()
        raise


async def _connect(stream: PlainStream, target: Target, upstream: Upstream) -> bytes:
    login = f"Proxy-Authorization: {upstream.authorization}\r\n" if upstream.authorization else ""
    await stream.write(f"CONNECT {target.authority} HTTP/1.1\r\nHost: {target.authority}\r\n{login}\r\n".encode("ascii"))
    data = bytearray()
    while END not in data:
        piece = await stream.read()
        if not piece or len(data) > _ANSWER_LIMIT:
            raise BadAnswer("no answer in HTTP")
        data += piece
    head, _, rest = bytes(data).partition(END)
    answer = parse(head)
    if not 200 <= answer.status < 300:
        raise BadAnswer(f"status {answer.status}")
    return rest


_Found = tuple[socket.AddressFamily, tuple[str | int | bytes, ...]]


async def _resolve(host: str, port: int) -> list[_Found]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
        raise NoWay(f"the name {host} cannot be resolved") from error
    return [(each[0], each[4]) for each in found[:_ADDRESSES_LIMIT]]


async def _first(host: str, found: list[_Found]) -> PlainStream:
    """The first of these addresses that answers."""
    loop = asyncio.get_running_loop()
    last: OSError | None = None
    for family, address in found:
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await loop.sock_connect(connection, address)
            return PlainStream(connection)
        except OSError as error:
            connection.close()
            last = error
        except BaseException:
            connection.close()
            raise
    raise NoWay(f"{host} does not answer: {last or 'no address'}") from last
