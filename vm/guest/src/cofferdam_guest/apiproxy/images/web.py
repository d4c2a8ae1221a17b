"""One HTTP request to a registry: https with the system's authorities, sizes and times bounded, redirects followed with care."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable
from email.message import Message
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

TIMEOUT = 10.0
OVERALL = 30.0
SIZE_LIMIT = 4 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECT_LIMIT = 5
_PIECE = 64 << 10


class Unreachable(Exception):
    """The registry gave no usable answer; the message says why."""


class Answer(NamedTuple):
    """A registry's answer."""

    status: int
    fields: Message
    body: bytes


def is_insecure(host: str, insecure: Iterable[str]) -> bool:
    """Whether plain http is spoken to a registry host, as dockerd decides: this machine, and what `insecure-registries` lists.

    Args:
        host: `NAME` or `NAME:PORT`.
        insecure: the list: hosts with or without a port, and networks (`192.0.2.0/24`).
    """
    name = urlsplit(f"//{host}").hostname or ""
    listed = {entry.lower() for entry in insecure}
    if name == "localhost" or {host.lower(), name} & listed:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or any(_holds(entry, address) for entry in listed if "/" in entry)


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


class Web:
    """Makes requests, one connection each.

    Args:
        insecure: see `is_insecure`.
        proxy: host and port of an HTTP proxy for https; none to connect directly.
        context: TLS settings; the system's authorities when there are none.
    """

    def __init__(
        self, insecure: Iterable[str] = (), proxy: tuple[str, int] | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        self._insecure, self._proxy = tuple(insecure), proxy
        self._context = context or ssl.create_default_context()

    def base(self, host: str) -> str:
        """The address under which a registry host answers."""
        return f"{'http' if is_insecure(host, self._insecure) else 'https'}://{host}"

    def request(self, method: str, url: str, fields: dict[str, str]) -> Answer:
        """Make a request and follow redirects; a login is shown to the host it was meant for only.

        Raises:
            Unreachable: no connection, no TLS, no HTTP, too large, too slow, or sent to where it must not go.
        """
        try:
            return self._followed(method, url, fields, time.monotonic() + OVERALL)
        except ValueError as error:
            raise Unreachable(f"{url} leads to what is no address: {error}") from error

    def _followed(self, method: str, url: str, fields: dict[str, str], deadline: float) -> Answer:
        first = urlsplit(url).netloc
        for _ in range(_REDIRECT_LIMIT):
            parts = urlsplit(url)
            self._check(parts)
            shown = {key: value for key, value in fields.items() if parts.netloc == first or key != "Authorization"}
            answer = self._once(method, parts, shown, deadline)
            target = answer.fields.get("Location")
            if answer.status not in _REDIRECTS or target is None:
                return answer
            url = urljoin(url, target)
        raise Unreachable(f"{first} redirects too often")

    def _check(self, parts: SplitResult) -> None:
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme != "http" or not is_insecure(parts.netloc, self._insecure):
            raise Unreachable(f"{parts.netloc} is not reached by https")

    def _once(self, method: str, parts: SplitResult, fields: dict[str, str], deadline: float) -> Answer:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection = self._connection(parts)
            try:
                connection.request(method, path, headers={"User-Agent": "cofferdam", **fields})
                response = connection.getresponse()
                return Answer(response.status, response.headers, _read(response, deadline))
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(f"{parts.netloc}: {error or type(error).__name__}") from error

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port or 80, timeout=TIMEOUT)
        if self._proxy is None:
            return http.client.HTTPSConnection(host, parts.port or 443, timeout=TIMEOUT, context=self._context)
        return _Tunnelled(host, parts.port or 443, self._context, self._proxy)


class _Tunnelled(http.client.HTTPSConnection):
    """https through a proxy, asked in HTTP/1.1; the standard library's own way speaks 1.0 before Python 3.12."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, proxy: tuple[str, int]) -> None:
        super().__init__(host, port, timeout=TIMEOUT, context=context)
        self._way, self._tls = proxy, context

    def connect(self) -> None:
        """Connect to the proxy, have it connect to the host, and begin TLS. Raises OSError."""
        connection = socket.create_connection(self._way, TIMEOUT)
        try:
            host = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
            connection.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("ascii"))
            status = _head(connection).split(b"\r\n")[0].decode("ascii", "replace")
            if not status.startswith(("HTTP/1.1 200 ", "HTTP/1.0 200 ")):
                raise OSError(status.partition(" ")[2])
            self.sock = self._tls.wrap_socket(connection, server_hostname=self.host)
        except BaseException:
            connection.close()
            raise


def _head(connection: socket.socket) -> bytes:
    """The proxy's answer up to its empty line, and not a byte of what follows."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece or len(head) > _PIECE:
            raise OSError("the proxy's answer is not HTTP")
        head += piece
    return head


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    data = bytearray()
    while piece := response.read1(_PIECE):
        data += piece
        if len(data) > SIZE_LIMIT:
            raise OSError(f"an answer of more than {SIZE_LIMIT >> 20} MiB")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer takes too long")
    return bytes(data)
