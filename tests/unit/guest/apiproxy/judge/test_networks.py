import pytest

BRIDGE = "com.docker.network.bridge.name"

GOOD = [
    {},
    {"Driver": "bridge", "IPAM": {"Driver": "default", "Config": [{"Subnet": "172.30.0.0/16", "Gateway": "172.30.0.1"}]}},
    {"Driver": "bridge", "Options": {BRIDGE: "br-mine", "com.docker.network.driver.mtu": "1400"}},
    {"Driver": "macvlan", "IPAM": {"Config": [{"Subnet": "fd00:1::/64", "AuxiliaryAddresses": {"a": "fd00:1::2"}}]}},
    {"Driver": "ipvlan", "Options": {"ipvlan_mode": "l2"}},
    {"Driver": "bridge", "IPAM": {"Config": [{"Subnet": "10.0.3.0/24"}]}},
]
BAD = [
    *(({"Driver": each}, "network-driver") for each in ("overlay", "host", "null", "weave", "Bridge")),
    ({"Driver": "macvlan", "Options": {"parent": "eth0"}}, "network-parent"),
    ({"Driver": "ipvlan", "Options": {"parent": "docker0"}}, "network-parent"),
    ({"ConfigOnly": True, "Options": {"parent": "eth0.7"}}, "network-parent"),
    *(({"Options": {BRIDGE: each}}, "network-bridge") for each in ("docker0", "eth0", "lo")),
    ({"IPAM": {"Driver": "mine"}}, "network-ipam"),
    *(
        ({"IPAM": {"Config": [{"Subnet": each}]}}, "network-address")
        for each in (
            "10.0.2.0/24",
            "10.0.0.0/8",
            "10.0.2.128/25",
            "0.0.0.0/0",
            "127.0.0.0/16",
            "169.254.0.0/16",
            "::ffff:a00:200/120",
        )
    ),
    ({"IPAM": {"Config": [{"Subnet": "010.0.2.0/24"}]}}, "network-address"),
    ({"IPAM": {"Config": [{"Subnet": "nonsense"}]}}, "network-address"),
    ({"IPAM": {"Config": [{"Subnet": "172.30.0.0/16", "Gateway": "10.0.2.2"}]}}, "network-address"),
    ({"IPAM": {"Config": [{"Subnet": "172.30.0.0/16", "IPRange": "10.0.2.0/30"}]}}, "network-address"),
    ({"IPAM": {"Config": [{"Subnet": "172.30.0.0/16", "AuxiliaryAddresses": {"a": "10.0.2.15"}}]}}, "network-address"),
]


@pytest.mark.parametrize("body", GOOD)
def test_networks_of_containers_pass(ask, body):
    assert ask("NetworkCreate", {"Name": "n", **body}).body == {"Name": "n", **body}


@pytest.mark.parametrize(("body", "rule"), BAD)
def test_what_takes_the_vms_interfaces_or_addresses_is_refused(ask, body, rule):
    assert ask.refused("NetworkCreate", {"Name": "n", **body}).rule == rule
