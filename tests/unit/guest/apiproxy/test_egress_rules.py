from __future__ import annotations

import socket

import pytest

from cofferdam_guest.apiproxy.egress import target
from cofferdam_guest.apiproxy.egress.addresses import may_reach
from cofferdam_guest.apiproxy.egress.hosts import Hosts
from cofferdam_guest.apiproxy.egress.target import Target
from cofferdam_guest.apiproxy.egress.upstream import NoWay, Upstream, Upstreams
from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.http.heads import Head
from cofferdam_guest.config.references import DEFAULT_HOST


def tunnel(host: str, port: int = 443) -> Target:
    return Target(host, port, None)


def request(host: str, port: int = 80) -> Target:
    return Target(host, port, "/")


LISTED = (
    "docker.io",
    "registry.example.com:5000",
    "Quay.Example.com",
    "*.wide.example.com",
    "*.ported.example.com:8443",
    "192.0.2.7:5000",
)


@pytest.mark.parametrize(
    ("where", "allowed"),
    [
        (tunnel(f"registry-1.{DEFAULT_HOST}"), True),
        (tunnel(f"auth.{DEFAULT_HOST}"), True),
        (tunnel(f"index.{DEFAULT_HOST}"), True),
        (tunnel("production.cloudflare.docker.com"), True),
        (tunnel("evil.docker.io"), False),
        (tunnel("docker.io.evil.example"), False),
        (tunnel(f"registry-1.{DEFAULT_HOST}", 8443), False),
        (tunnel("registry.example.com", 5000), True),
        (request("registry.example.com", 5000), True),
        (tunnel("registry.example.com"), False),
        (tunnel("quay.example.com"), True),
        (request("quay.example.com"), True),
        (tunnel("quay.example.com", 80), False),
        (request("quay.example.com", 443), False),
        (tunnel("quay.example.com", 22), False),
        (tunnel("a.quay.example.com"), False),
        (tunnel("notquay.example.com"), False),
        (tunnel("a.wide.example.com"), True),
        (tunnel("b.a.wide.example.com"), True),
        (tunnel("wide.example.com"), False),
        (tunnel("notwide.example.com"), False),
        (tunnel("a.wide.example.com", 8443), False),
        (tunnel("a.ported.example.com", 8443), True),
        (tunnel("a.ported.example.com"), False),
        (tunnel("192.0.2.7", 5000), True),
        (tunnel("192.0.2.7"), False),
    ],
)
def test_a_host_is_allowed_by_name_and_port(where: Target, allowed: bool) -> None:
    assert Hosts(LISTED).allow(where) is allowed


def test_without_docker_hub_its_hosts_are_not_allowed_and_without_a_list_all_are() -> None:
    assert not Hosts(("registry.example.com",)).allow(tunnel(f"registry-1.{DEFAULT_HOST}"))
    assert not Hosts(()).allow(tunnel(f"registry-1.{DEFAULT_HOST}"))
    assert Hosts(None).allow(tunnel("anything.example", 1234))


@pytest.mark.parametrize(
    ("method", "text", "expected"),
    [
        ("CONNECT", b"Registry.Example.com:443", tunnel("registry.example.com")),
        ("CONNECT", b"registry.example.com.:443", tunnel("registry.example.com")),
        ("CONNECT", b"[2001:DB8::0:1]:5000", tunnel("2001:db8::1", 5000)),
        ("CONNECT", b"192.0.2.1:443", tunnel("192.0.2.1")),
        ("GET", b"http://registry.example.com/v2/?a=b", Target("registry.example.com", 80, "/v2/?a=b")),
        ("GET", b"HTTP://registry.example.com:5000", Target("registry.example.com", 5000, "/")),
        ("GET", b"http://registry.example.com?x", Target("registry.example.com", 80, "/?x")),
    ],
)
def test_targets_are_read(method: str, text: bytes, expected: Target) -> None:
    assert target.of(Head(method, text, ())) == expected


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("CONNECT", b"registry.example.com"),
        ("CONNECT", b"registry.example.com:"),
        ("CONNECT", b"registry.example.com:0"),
        ("CONNECT", b"registry.example.com:65536"),
        ("CONNECT", b"registry.example.com:443/path"),
        ("CONNECT", b"user@registry.example.com:443"),
        ("CONNECT", b"http://registry.example.com:443"),
        ("CONNECT", b"registry.example.com%00.evil:443"),
        ("CONNECT", b"registry..example.com:443"),
        ("CONNECT", b".:443"),
        ("CONNECT", b"127.1:443"),
        ("CONNECT", b"0x7f.0.0.1:443"),
        ("CONNECT", b"2130706433:443"),
        ("CONNECT", b"0177.0.0.1:443"),
        ("CONNECT", b"[::1:443"),
        ("CONNECT", b"[fe80::1%25eth0]:443"),
        ("CONNECT", b"::1:443"),
        ("GET", b"/v2/"),
        ("GET", b"*"),
        ("GET", b"https://registry.example.com/"),
        ("GET", b"ftp://registry.example.com/"),
        ("GET", b"http:///v2/"),
        ("GET", b"http://user:secret@registry.example.com/"),
        ("GET", b"http://registry.example.com\\@evil.example/"),
        ("GET", b"http://registry.example.com#@evil.example/"),
        ("GET", b"http://registry.example.com/#fragment"),
    ],
)
def test_targets_that_could_be_read_in_two_ways_are_refused(method: str, text: bytes) -> None:
    with pytest.raises(Denied) as caught:
        target.of(Head(method, text, ()))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.2.2",
        "10.0.2.3",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.2.2",
        "64:ff9b::10.0.2.2",
        "2002:7f00:1::",
        "fe80::1",
        "fe80::1%lo",
        "fec0::2",
        "ff02::1",
        "nonsense",
        "",
    ],
)
def test_the_vm_itself_and_the_desktop_are_closed(address: str) -> None:
    assert not may_reach(address)


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.3.1", "172.17.0.2", "2001:db8::1", "::ffff:192.0.2.1"])
def test_the_world_and_the_company_are_open(address: str) -> None:
    assert may_reach(address)


def test_an_address_of_this_machine_is_closed_whichever_it_is() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no route, so no address but the loopback's")
        own = probe.getsockname()[0]
    assert not may_reach(own)


PROXIES = {
    "https": "http://user:p%40ss@proxy.example.com:3128",
    "http": "proxy.example.com",
    "no": "direct.example.com, .below.example.com,*.star.example.com,192.0.2.0/24,ported.example.com:5000,[2001:db8::1]:443,10.1.1.1",
}


@pytest.mark.parametrize(
    ("where", "direct"),
    [
        (tunnel("registry.example.com"), False),
        (tunnel("direct.example.com"), True),
        (tunnel("a.direct.example.com"), True),
        (tunnel("notdirect.example.com"), False),
        (tunnel("a.below.example.com"), True),
        (tunnel("below.example.com"), False),
        (tunnel("a.star.example.com"), True),
        (tunnel("192.0.2.200"), True),
        (tunnel("192.0.3.1"), False),
        (tunnel("ported.example.com", 5000), True),
        (tunnel("ported.example.com"), False),
        (tunnel("2001:db8::1"), True),
        (tunnel("10.1.1.1"), True),
        (tunnel("110.1.1.1"), False),
    ],
)
def test_the_companys_proxy_is_used_but_for_its_exceptions(where: Target, direct: bool) -> None:
    assert (Upstreams(PROXIES).choose(where) is None) is direct


def test_the_companys_proxy_by_scheme() -> None:
    upstreams = Upstreams(PROXIES)
    assert upstreams.choose(tunnel("a.example")) == Upstream("proxy.example.com", 3128, "Basic dXNlcjpwQHNz")
    assert upstreams.choose(request("a.example")) == Upstream("proxy.example.com", 80, None)
    assert Upstreams({"http": "http://p:1"}).choose(tunnel("a.example")) is None
    assert Upstreams({**PROXIES, "no": "*"}).choose(tunnel("a.example")) is None


@pytest.mark.parametrize(
    "url", ["https://proxy.example.com", "socks5://proxy.example.com", "http://", "http://[bad", "http://p:x"]
)
def test_a_proxy_that_cannot_be_used_is_no_reason_to_go_around_it(url: str) -> None:
    with pytest.raises(NoWay):
        Upstreams({"https": url}).choose(tunnel("a.example"))
