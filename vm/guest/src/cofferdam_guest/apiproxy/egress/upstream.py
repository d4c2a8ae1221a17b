"""The company's own proxy, to which connections go on when the policy names one. Pure.

`no` follows what Go's programs, dockerd among them, take for NO_PROXY: names (with all below them), `.name` and `*.name` (those
below only), addresses, networks, each but the last with an optional port, and `*`.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from cofferdam_guest.apiproxy.egress.target import Target

_USUAL_PORT = 80


class NoWay(Exception):
    """The target cannot be reached; the message is for the client."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A proxy: host, port, and the value of Proxy-Authorization, if it wants a login."""

    host: str
    port: int
    authorization: str | None


class Upstreams:
    """The policy's proxies.

    Args:
        proxies: `http` and `https`, as `http://[user:password@]host[:port]`; `no`, comma-separated.
    """

    def __init__(self, proxies: Mapping[str, str]) -> None:
        self._urls = {scheme: proxies[scheme] for scheme in ("http", "https") if proxies.get(scheme)}
        self._no = [entry.strip().lower() for entry in proxies.get("no", "").split(",") if entry.strip()]

    def choose(self, target: Target) -> Upstream | None:
        """The proxy for a target; none to connect directly. Raises NoWay: there is one, but it cannot be used."""
        url = self._urls.get("https" if target.is_tunnel else "http")
        if url is None or any(_names(entry, target) for entry in self._no):
            return None
        return parse(url)


def parse(url: str) -> Upstream:
    """The proxy of an address in the policy. Raises NoWay."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or _USUAL_PORT
    except ValueError as error:
        raise NoWay(f"the policy's proxy is no address: {error}") from error
    if parts.scheme != "http" or not host:
        raise NoWay("the policy's proxy is not http://host:port; proxies that are reached by TLS themselves are not supported")
    if parts.username is None:
        return Upstream(host, port, None)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Upstream(host, port, "Basic " + base64.b64encode(login.encode()).decode("ascii"))


def _names(entry: str, target: Target) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _holds(entry, target)
    name, port = _split(entry)
    if port and port != str(target.port):
        return False
    if name.startswith(("*.", ".")):
        return target.host.endswith(name.removeprefix("*"))
    return target.host == name or (target.address is None and target.host.endswith(f".{name}"))


def _split(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    return (entry, "") if entry.count(":") != 1 else (entry.partition(":")[0], entry.partition(":")[2])


def _holds(network: str, target: Target) -> bool:
    try:
        return target.address is not None and target.address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
