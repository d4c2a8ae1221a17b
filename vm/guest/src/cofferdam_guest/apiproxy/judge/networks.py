"""Networks: bridges and internal segments of containers, apart from the VM's own interfaces and addresses."""

from __future__ import annotations

from cofferdam_guest.apiproxy.judge.addresses import overlaps_reserved
from cofferdam_guest.apiproxy.judge.refusals import policy
from cofferdam_guest.apiproxy.judge.request import Body, Request

# without a parent, macvlan and ipvlan are on a dummy interface: containers among themselves
DRIVERS = ("", "default", "bridge", "macvlan", "ipvlan")
BRIDGE_NAME = "com.docker.network.bridge.name"
PARENT = "parent"
_OWN = ("lo", "docker0")
_OWN_PREFIXES = ("eth", "en", "wl", "veth")


async def create(request: Request) -> Request:
    """Judge a new network. Raises Denied."""
    body = request.body or {}
    driver = body.get("Driver") or ""
    if driver not in DRIVERS:
        raise policy(
            "network-driver", f"network driver {driver} is not allowed: use bridge, or macvlan or ipvlan without a parent"
        )
    options = body.get("Options") or {}
    if options.get(PARENT):
        text = f"option parent={options[PARENT]} is not allowed: interfaces of the VM can't be part of a network of containers"
        raise policy("network-parent", text)
    name = options.get(BRIDGE_NAME) or ""
    if name in _OWN or name.startswith(_OWN_PREFIXES):
        raise policy("network-bridge", f"option {BRIDGE_NAME}={name} is not allowed: the interface is the VM's own")
    _addresses(body.get("IPAM") or {})
    return request


def _addresses(ipam: Body) -> None:
    driver = ipam.get("Driver") or ""
    if driver not in ("", "default"):
        raise policy("network-ipam", f"address driver {driver} is not allowed: only default is")
    for config in ipam.get("Config") or []:
        values = [config.get(key) for key in ("Subnet", "IPRange", "Gateway")]
        for text in (*values, *(config.get("AuxiliaryAddresses") or {}).values()):
            if text and overlaps_reserved(text):
                raise policy("network-address", f"{text} is not allowed: the VM itself has these addresses")
