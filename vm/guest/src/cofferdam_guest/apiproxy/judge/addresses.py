"""Hosts that dockerd must not be sent to: the VM itself, its neighbours on QEMU's network, link-local services.

A name is judged as a text. What it resolves to when dockerd asks, and where a server redirects to, is not seen here.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from cofferdam_guest.apiproxy.judge.refusals import malformed

# QEMU's network with the desktop as 10.0.2.2 and its resolver, this host, link-local
RESERVED = tuple(
    ip_network(each)
    for each in ("10.0.2.0/24", "127.0.0.0/8", "0.0.0.0/8", "169.254.0.0/16", "::1/128", "::/128", "fe80::/10", "fec0::/10")
)
_NAMES = ("localhost", "cofferdam")
_SUFFIXES = (".localhost", ".localdomain", ".internal")
_URL = re.compile(
    r"(?P<scheme>https?|git|ssh)://(?:[^/?#@\\\s]*@)?"
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?:[/?#][!-~]*)?"
)
_SCP = re.compile(r"[A-Za-z0-9._-]+@(?P<host>[A-Za-z0-9._-]+):[!-~]*")
_PORTS = {"http": "80", "https": "443", "git": "9418", "ssh": "22"}


def is_reserved(host: str) -> bool:
    """Whether a host, a name or an address without its port, is one that dockerd must not be sent to."""
    name = host.lower().rstrip(".").strip("[]")
    try:
        address: IPv4Address | IPv6Address = ip_address(name)
    except ValueError:
        # 127.1 and 0x7f000001 are addresses for some resolvers
        return name in _NAMES or name.endswith(_SUFFIXES) or name.rpartition(".")[2][:1].isdecimal()
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in RESERVED)


def overlaps_reserved(text: str) -> bool:
    """Whether a subnet or an address shares addresses with the reserved ones. Raises Denied for what is neither."""
    try:
        network: IPv4Network | IPv6Network = ip_network(text, strict=False)
    except ValueError as error:
        raise malformed("network-address", f"{text} is not a network address: {error}") from error
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        return True
    return any(network.version == each.version and network.overlaps(each) for each in RESERVED)


def host_of(url: str) -> str:
    """The host of a URL or of git's `user@host:path`, with its port unless that is the scheme's own. Raises Denied."""
    found = _URL.fullmatch(url) or _SCP.fullmatch(url)
    if found is None:
        raise malformed(
            "url", f"{url!r} is not an address that can be judged: write http, https, git or ssh://host/path, or user@host:path"
        )
    parts = found.groupdict()
    port = parts.get("port")
    host = parts["host"].lower()
    return host if port is None or port == _PORTS.get(parts["scheme"]) else f"{host}:{port}"


def without_port(host: str) -> str:
    """The host of `host:port`."""
    return host if host.endswith("]") else re.sub(r":[0-9]+$", "", host)
