"""Networks and a container's endpoints in them (Go: api/types/network; `EnableIPv4` and `GwPriority` are of API 1.48)."""

from __future__ import annotations

from cofferdam_guest.apiproxy.schema.kinds import Bool, Int, ListOf, MapOf, Object, Str
from cofferdam_guest.apiproxy.schema.resources import STRINGS, TEXTS

_ENDPOINT_TEXTS = (*("MacAddress", "NetworkID", "EndpointID", "Gateway", "IPAddress", "IPv6Gateway", "GlobalIPv6Address"),)
_NETWORK_FLAGS = ("CheckDuplicate", "EnableIPv4", "EnableIPv6", "Internal", "Attachable", "Ingress", "ConfigOnly")

ENDPOINT = Object(
    {
        **dict.fromkeys(_ENDPOINT_TEXTS, Str()),
        **dict.fromkeys(("IPPrefixLen", "GlobalIPv6PrefixLen", "GwPriority"), Int()),
        **dict.fromkeys(("Links", "Aliases", "DNSNames"), STRINGS),
        "IPAMConfig": Object({"IPv4Address": Str(), "IPv6Address": Str(), "LinkLocalIPs": STRINGS}),
        "DriverOpts": TEXTS,
    }
)

NETWORKING = Object({"EndpointsConfig": MapOf(ENDPOINT)}, strays=True)
"""A null endpoint is an empty one, as it was to older engines; docker-py writes `{"name": null}` in place of all of it."""

_IPAM_CONFIG = Object(
    {**dict.fromkeys(("Subnet", "IPRange", "Gateway"), Str()), "AuxiliaryAddresses": TEXTS},
    ignored=frozenset(("NetworkID",)),
)

NETWORK_CREATE = Object(
    {
        **dict.fromkeys(_NETWORK_FLAGS, Bool()),
        **dict.fromkeys(("Name", "Driver", "Scope"), Str()),
        **dict.fromkeys(("Options", "Labels"), TEXTS),
        "IPAM": Object({"Driver": Str(), "Options": TEXTS, "Config": ListOf(_IPAM_CONFIG)}),
        "ConfigFrom": Object({"Network": Str()}),
    },
    aliases={"enableIPv6": "EnableIPv6"},
)

NETWORK_CONNECT = Object({"Container": Str(), "EndpointConfig": ENDPOINT}, ignored=frozenset(("containerConfig",)))
NETWORK_DISCONNECT = Object({"Container": Str(), "Force": Bool()})
