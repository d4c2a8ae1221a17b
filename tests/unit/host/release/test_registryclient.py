"""References, and how the client answers a registry's questions; the registry is one on the loopback that only reads."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from cofferdam.errors import UsageError
from cofferdam.release import registryclient
from cofferdam.release.packing import packed_file, unpacked_file
from cofferdam.release.reference import is_loopback, parse_reference, version_tag
from cofferdam.release.registryclient import Client, RegistryError
from servers.registry import Image, Registry

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "base", "wanted"),
    [
        ("registry.example.com/cofferdam:1.0", "https://registry.example.com/v2/cofferdam", "1.0"),
        ("registry.example.com:5000/a/b-c__d:1@" + DIGEST, "https://registry.example.com:5000/v2/a/b-c__d", DIGEST),
        ("localhost/x", "http://localhost/v2/x", ""),
        ("127.0.0.1:5000/x@" + DIGEST, "http://127.0.0.1:5000/v2/x", DIGEST),
        ("[::1]:5000/x:1", "http://[::1]:5000/v2/x", "1"),
        ("[2001:db8::1]/x:1", "https://[2001:db8::1]/v2/x", "1"),
    ],
)
def test_references(text, base, wanted):
    found = parse_reference(text)
    assert (str(found), found.base, found.wanted) == (text, base, wanted)


@pytest.mark.parametrize(
    "text",
    [
        "cofferdam",
        "company/cofferdam:1",
        "registry.example.com/",
        "registry.example.com/Upper",
        "registry.example.com/a..b",
        "registry.example.com/../x",
        "https://registry.example.com/x",
        "user@registry.example.com/x",
        "registry.example.com/x@sha256:abc",
        "registry.example.com/x:1\n",
        "registry.example.com/" + "a" * 300,
    ],
)
def test_what_is_no_reference(text):
    with pytest.raises(UsageError, match="is no reference"):
        parse_reference(text)


def test_hosts_of_the_loopback():
    assert [host for host in ("localhost:5000", "127.0.0.2", "[::1]", "::1") if not is_loopback(host)] == []
    assert [host for host in ("localhost.example.com", "128.0.0.1:80", "[::2]:1", "10.0.2.2") if is_loopback(host)] == []


def test_a_version_is_a_tag():
    assert version_tag("1.2.0-rc1+build~3") == "1.2.0-rc1_build_3"


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    found = Registry()
    yield found
    found.close()


def ask(registry: Registry) -> bytes:
    with closing(Client(parse_reference(f"{registry.host}/x:1"))) as client:
        return client.manifest("1")


def log_in(tmp_path, host: str, words: str) -> None:
    auth = base64.b64encode(words.encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def test_anonymous_tokens_are_fetched(registry):
    image = Image("layer")
    registry.push("x", "1", image)
    registry.login = "token"
    assert ask(registry) == image.manifest
    assert [path.partition("?")[0] for path, _ in registry.seen] == ["/v2/x/manifests/1", "/token", "/v2/x/manifests/1"]


@pytest.mark.parametrize("kind", ["token", "basic"])
def test_the_stored_login_is_used_where_it_is_for(registry, tmp_path, kind):
    registry.push("x", "1", Image("layer"))
    registry.login = (kind, "ada", "secret")
    for host, words in (("other.example.com", "ada:secret"), (registry.host, "ada:wrong")):
        log_in(tmp_path, host, words)
        with pytest.raises(RegistryError, match="does not let you read x"):
            ask(registry)
    log_in(tmp_path, registry.host, "ada:secret")
    assert ask(registry)


def test_a_login_of_the_environment_comes_first(registry, tmp_path, monkeypatch):
    registry.push("x", "1", Image("layer"))
    registry.login = ("basic", "ada", "secret")
    log_in(tmp_path, registry.host, "ada:wrong")
    monkeypatch.setenv("COFFERDAM_REGISTRY_USER", "ada")
    monkeypatch.setenv("COFFERDAM_REGISTRY_PASSWORD", "secret")
    assert ask(registry)


def test_a_netrc_has_no_say(registry, tmp_path, monkeypatch):
    # away from the loopback, where the environment is asked for proxies
    monkeypatch.setattr(registryclient, "is_loopback", lambda _: False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    registry.push("x", "1", Image("layer"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(registry)
    assert [authorization for _, authorization in registry.seen] == [None]


@pytest.mark.parametrize("place", ["http://registry.example.com/v2/x", "https://other.example.com/v2/x"])
def test_the_login_is_for_the_registry_alone(place):
    with closing(Client(parse_reference("registry.example.com/x:1"))) as client:
        assert client._is_registry("https://registry.example.com/v2/x/blobs/uploads/1")
        assert not client._is_registry(place)


def test_a_challenge_of_another_host_gets_no_login(registry, tmp_path):
    registry.push("x", "1", Image("layer"))
    registry.login = ("token", "ada", "secret")
    log_in(tmp_path, "localhost", "ada:secret")
    with closing(Client(parse_reference("localhost/x:1"))) as client, pytest.raises(RegistryError, match="does not let you"):
        client._ask("GET", f"http://{registry.host}/v2/x/manifests/1")
    assert [path for path, _ in registry.seen] == ["/v2/x/manifests/1"]


def test_a_registry_that_fails_says_so(registry):
    with pytest.raises(RegistryError, match="is not there"):
        ask(registry)
    registry.broken = 500
    with pytest.raises(RegistryError, match="answered GET with 500"):
        ask(registry)
    registry.close()
    with pytest.raises(RegistryError, match="cannot be reached"):
        ask(registry)


def test_packing_is_undone_and_the_same_each_time(tmp_path):
    plain = tmp_path / "disk.raw"
    plain.write_bytes(bytes(1 << 20) + b"end")
    packed_file(plain, tmp_path / "a.raw.zst")
    packed_file(plain, tmp_path / "b.raw.zst")
    assert (tmp_path / "a.raw.zst").read_bytes() == (tmp_path / "b.raw.zst").read_bytes()
    assert (tmp_path / "a.raw.zst").stat().st_size < 1000
    (tmp_path / "out").mkdir()
    assert unpacked_file(tmp_path / "a.raw.zst", tmp_path / "out").read_bytes() == plain.read_bytes()
    packed_file(plain, tmp_path / "c.qcow2")
    assert unpacked_file(tmp_path / "c.qcow2", tmp_path / "out").read_bytes() == plain.read_bytes()
