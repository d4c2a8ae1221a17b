"""What a container has of the desktop: names for its address, and published ports on it."""

from __future__ import annotations

from ipaddress import IPv4Address

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.judge.request import Body, Facts

# QEMU's address of the desktop; the same as host-gateway-ip in daemon.json
GATEWAY = "10.0.2.2"
NAMES = ("host.docker.internal", "gateway.docker.internal")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - of the VM, whose network card leads to the desktop alone
_PROTOCOLS = ("tcp", "udp")
Bindings = dict[str, list[Body] | None]


def own_network(host: Body) -> bool:
    """Whether a container has a network of its own, which names and ports belong to."""
    mode = host.get("NetworkMode") or ""
    return mode not in ("none", "host") and not mode.startswith("container:")


def with_names(host: Body) -> list[str] | None:
    """ExtraHosts with the desktop's names, each unless there is an entry of that name."""
    given: list[str] | None = host.get("ExtraHosts")
    if not own_network(host):
        return given
    taken = {entry.replace("=", ":").partition(":")[0].lower() for entry in given or []}
    return [*(given or []), *(f"{name}:{GATEWAY}" for name in NAMES if name not in taken)]


def on_the_card(bindings: Bindings) -> Bindings:
    """PortBindings with each address of IPv4 as all of the VM's: what was meant is the desktop's, which dockerd has not."""
    return {port: places and [_on_the_card(place) for place in places] for port, places in bindings.items()}


def _on_the_card(place: Body) -> Body:
    return place | {"HostIp": EVERYWHERE} if _is_ipv4(place.get("HostIp") or "") else place


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def explicit(bindings: Bindings) -> list[tuple[str, int]]:
    """The ports that dockerd will use for sure; of a range, and of none, it chooses one itself."""
    found = []
    for port, places in bindings.items():
        protocol = port.partition("/")[2].lower() or "tcp"
        numbers = [place.get("HostPort") or "" for place in places or [] if ":" not in (place.get("HostIp") or "")]
        if protocol in _PROTOCOLS:
            found += [(protocol, int(number)) for number in numbers if number.isdecimal() and 0 < int(number) < 1 << 16]
    return list(dict.fromkeys(found))


async def check_ports(container: Body, facts: Facts) -> None:
    """Have the desktop open a container's ports. Raises Denied when it cannot."""
    host: Body = container.get("HostConfig") or {}
    ports = explicit(host.get("PortBindings") or {}) if own_network(host) else []
    reason = await facts.desktop_port_refusal(str(container.get("Id") or ""), ports) if ports else ""
    if reason:
        name = str(container.get("Name") or "").removeprefix("/")
        raise Denied(500, "desktop-port", f"driver failed programming external connectivity on endpoint {name}: {reason}")
