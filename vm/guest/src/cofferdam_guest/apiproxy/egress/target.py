"""Where a proxied request wants to go: CONNECT's authority or the absolute address of a plain http request. Pure.

Source: RFC 9112 section 3.2. What two readers could take for two hosts is refused: user names, percent signs, and numbers that
only some resolvers take for an address.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from cofferdam_guest.apiproxy.http.heads import Head, malformed

HTTP, HTTPS = 80, 443
_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,254})(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"http://([^/?#]{1,300})((?:[/?][^#]*)?)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


@dataclass(frozen=True, slots=True)
class Target:
    """Where to.

    Attributes:
        host: name in small letters without a last dot, or an address without brackets.
        port: port.
        path: path and query of a plain request; none for a tunnel.
    """

    host: str
    port: int
    path: str | None

    @property
    def is_tunnel(self) -> bool:
        """Whether this is a CONNECT."""
        return self.path is None

    @property
    def authority(self) -> str:
        """Host and port as they stand in a request; the port of plain http is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTP and not self.is_tunnel else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The host as a refusal names it: without the usual port."""
        return self.host if self.port in (HTTP, HTTPS) else self.authority

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address when the host is one."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def of(head: Head) -> Target:
    """The target of a request. Raises Denied when there is none, or when it is not plain."""
    text = head.target.decode("ascii")
    if head.method == "CONNECT":
        return _target(text, None)
    match = _ABSOLUTE.fullmatch(text)
    if match is None:
        raise malformed("a proxy takes CONNECT host:port and http://host/path")
    path = match[2] if match[2].startswith("/") else f"/{match[2]}"
    return _target(match[1], path)


def _target(authority: str, path: str | None) -> Target:
    match = _AUTHORITY.fullmatch(authority)
    if match is None or (path is None and not match[2]):
        raise malformed("the target is not host:port")
    port = int(match[2] or HTTP)
    if not 0 < port < 65536:
        raise malformed("the target's port is not a port")
    return Target(_host(match[1]), port, path)


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise malformed("the target is not an address") from None
    host = text.lower().removesuffix(".")
    if not _NAME.fullmatch(host):
        raise malformed("the target is not a host")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise malformed("the target is not an address") from None
    return host
