"""What the host hands over beside the policy: its proxies, the MTU and its authorities; the policy's own values win."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from cofferdam_guest.config import network as networks
from cofferdam_guest.config.network import Network, NetworkError, from_json
from cofferdam_guest.policyload.main import Places
from unit.guest.policyload import test_policyload as policyload
from unit.guest.policyload.test_policyload import SYSTEM, loaded

places = policyload.places
FILTER = "http://127.0.0.1:3128"
COMPANY = SYSTEM.replace("c3lzdGVt", "Y29tcGFueQ==")
MTU = {"bridge": {"com.docker.network.driver.mtu": "1300"}}


def hand_over(places: Places, **values: object) -> None:
    Path(places.network).write_text(json.dumps(values))


def bake(places: Places, **values: object) -> None:
    Path(places.baked).write_text(json.dumps(values))


def test_without_anything_nothing_changes(places):
    policy, _, daemon, _ = loaded(places)
    assert "proxies" not in daemon and "default-network-opts" not in daemon
    assert networks.load(f"{places.out}/network.json") == Network()
    assert Path(places.bundle).read_text() == SYSTEM
    assert policy.proxies == {}


def test_proxies_lead_dockerd_to_the_filter_and_are_no_part_of_the_policy(places):
    before = loaded(places)[0]
    hand_over(places, proxies={"https": "http://me:secret@10.0.2.2:3128", "no": "example.com"})
    policy, _, daemon, lines = loaded(places)
    assert policy == before and policy.sha256 == before.sha256
    assert daemon["proxies"] == {"http-proxy": FILTER, "https-proxy": FILTER}
    assert networks.load(f"{places.out}/network.json").proxies == {"https": "http://me:secret@10.0.2.2:3128", "no": "example.com"}
    assert "secret" not in json.dumps(daemon) + "".join(lines)
    assert stat.S_IMODE(os.stat(f"{places.out}/network.json").st_mode) == 0o600


@pytest.mark.parametrize("given", [1300, None])
def test_the_mtu_is_that_of_every_new_network(places, given):
    bake(places)
    hand_over(places, mtu=given)
    daemon = loaded(places)[2]
    assert (daemon.get("mtu"), daemon.get("default-network-opts")) == ((1300, MTU) if given else (None, None))


@pytest.mark.parametrize(
    ("options", "mtu", "networks"),
    [
        ({"mtu": 1400}, 1400, None),
        ({"default-network-opts": MTU}, 1450, MTU),
        ({"default-network-opts": {"bridge": {"a": "b"}, "overlay": {"c": "d"}}}, 1450, None),
    ],
)
def test_the_policy_wins_over_the_mtu(places, options, mtu, networks):
    bake(places, linuxVM={"dockerDaemonOptions": {"value": json.dumps(options)}})
    hand_over(places, mtu=1450)
    daemon = loaded(places)[2]
    assert daemon["mtu"] == mtu
    if "default-network-opts" in options and networks is None:
        networks = {"bridge": {"com.docker.network.driver.mtu": "1450", "a": "b"}, "overlay": {"c": "d"}}
    assert daemon.get("default-network-opts") == networks


def test_authorities_are_added_to_those_of_the_image(places):
    Path(places.authorities).write_text(COMPANY)
    loaded(places)
    assert Path(places.bundle).read_text() == SYSTEM + COMPANY
    assert stat.S_IMODE(os.stat(places.bundle).st_mode) == 0o444
    Path(places.authorities).unlink()
    loaded(places)
    assert Path(places.bundle).read_text() == SYSTEM


@pytest.mark.parametrize("content", [b"text", b"\xff", b"-----BEGIN CERTIFICATE-----\n", b"x" * (5 << 20)])
def test_authorities_that_cannot_be_used_are_told_and_left_out(places, content):
    Path(places.authorities).write_bytes(content)
    policy, _, _, lines = loaded(places)
    assert Path(places.bundle).read_text() == SYSTEM
    assert any(line.startswith(f"<4>{places.authorities} is left out: ") for line in lines)
    assert not policy.denied


def test_an_image_without_authorities_has_those_handed_over(places):
    Path(places.system).unlink()
    Path(places.authorities).write_text(COMPANY)
    loaded(places)
    assert Path(places.bundle).read_text() == COMPANY


BAD = [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b'{"mtu": "1300"}',
    b'{"mtu": true}',
    b'{"mtu": 575}',
    b'{"mtu": 9001}',
    b'{"proxies": []}',
    b'{"proxies": {"https": 1}}',
    b'{"proxies": {"ftp": "http://secret:1"}}',
    b'{"proxies": {"https": "socks5://secret:1"}}',
    b'{"else": 1}',
    b'{"mtu": 1300, "mtu": 1301}',
]


@pytest.mark.parametrize("content", BAD)
def test_a_network_that_is_not_understood_is_told_and_left_out(places, content):
    with pytest.raises(NetworkError) as error:
        from_json(content)
    assert "secret" not in str(error.value)
    Path(places.network).write_bytes(content)
    policy, _, daemon, lines = loaded(places)
    assert not policy.denied
    assert "proxies" not in daemon
    assert content == b"" or any(line.startswith(f"<4>{places.network} is left out: ") for line in lines)


def test_a_denying_policy_stays_one(places):
    Path(places.baked).unlink()
    hand_over(places, proxies={"https": "http://10.0.2.2:3128"}, mtu=1300)
    Path(places.authorities).write_text(COMPANY)
    assert loaded(places)[0].denied
