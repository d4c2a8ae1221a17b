"""Addresses that dockerd must not be led to, whatever name it was given: the VM's own, and what the desktop answers under.

Services of the VM and of the desktop trust who reaches them over these; a name under someone's control may resolve to any.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

Rule = Callable[[str], bool]
"""Whether an address may be connected to."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_CLOSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # "this host"
            "10.0.2.0/24",  # QEMU's user network: the desktop, its resolver, this VM
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/3",
            "::/96",
            "fe80::/10",
            "fec0::/10",  # QEMU's user network again
            "ff00::/8",
        ),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def may_reach(text: str) -> bool:
    """The rule of the VM. `text` is an address as getaddrinfo gives it; what is no address may not be reached."""
    try:
        address = _inner(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    return not any(address in network for network in _CLOSED) and not _is_own(address)


def _inner(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_own(address: _Address) -> bool:
    """Whether the kernel would deliver to itself: then the source it picks is the address itself. Nothing is sent."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False  # no route: a connection fails as well
        return str(probe.getsockname()[0]) == str(address)
