"""From dockerd's list of containers to ports of the desktop."""

from __future__ import annotations

import pytest

from cofferdam.machine.ports.wanted import Holder, Port, wanted


def row(public: int | None = 8080, proto: str = "tcp", address: str = "0.0.0.0") -> dict[str, object]:
    published = {} if public is None else {"IP": address, "PublicPort": public}
    return {"PrivatePort": 80, "Type": proto, **published}


def listed(*ports: dict[str, object], names: object = ("/web",)) -> list[dict[str, object]]:
    return [{"Id": "0123456789abcdef", "Names": names, "Ports": list(ports), "State": "running"}]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([], []),
        ([row(None)], []),
        ([row()], [("tcp", 8080)]),
        ([row(), row(address="::")], [("tcp", 8080)]),
        ([row(address="::1")], []),
        ([row(address="127.0.0.1")], [("tcp", 8080)]),
        ([row(proto="udp"), row()], [("udp", 8080), ("tcp", 8080)]),
        ([row(proto="sctp")], []),
        ([row(port) for port in range(8000, 8003)], [("tcp", 8000), ("tcp", 8001), ("tcp", 8002)]),
    ],
)
def test_what_is_published_over_ipv4(ports, expected):
    assert list(wanted(listed(*ports))) == expected


def test_a_port_knows_its_container():
    assert wanted(listed(row())) == {Port("tcp", 8080): Holder("0123456789abcdef", "web")}
    assert wanted(listed(row(), names=["/other/alias", "/web"]))[Port("tcp", 8080)].name == "web"
    assert wanted(listed(row(), names=["/\x1b[2Jweb\n"]))[Port("tcp", 8080)].name == "??2Jweb?"
    assert wanted(listed(row(), names=None))[Port("tcp", 8080)].name == "0123456789ab"


def test_a_container_without_network_has_no_ports():
    assert wanted([{"Id": "a", "Names": ["/a"], "Ports": None}]) == {}


@pytest.mark.parametrize(
    "answer",
    [{"message": "refused"}, [{"Names": []}], listed(row(70_000)), listed(row(-1)), listed({"PublicPort": "x; quit"}), "[]"],
)
def test_what_is_no_list_of_containers_is_an_error(answer):
    with pytest.raises(ValueError, match="validation error"):
        wanted(answer)
