from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cofferdam_guest.apiproxy.egress.proxy import EgressProxy
from cofferdam_guest.apiproxy.images import challenge, web
from cofferdam_guest.apiproxy.images.client import Gone, RegistryClient
from cofferdam_guest.apiproxy.images.manifests import BadManifest, parse
from cofferdam_guest.apiproxy.images.web import Unreachable, Web, is_insecure
from cofferdam_guest.apiproxy.main import authorities
from cofferdam_guest.config import references
from cofferdam_guest.config.policy import Policy
from servers.registry import Image, Registry

IMAGE = Image("base", "cli")
CONTEXT = ssl.create_default_context()  # slow to make


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    made.push("tools/cli", "1", IMAGE)
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[RegistryClient]:
    made = RegistryClient(Web(context=CONTEXT))
    yield made
    made.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def cli(registry: Registry, repository: str = "tools/cli") -> references.Reference:
    return references.parse(f"{registry.host}/{repository}:1")


def test_a_tag_is_asked_for_without_reading_it(registry: Registry, client: RegistryClient) -> None:
    assert run(client.digest(cli(registry), "1")) == IMAGE.digest
    assert registry.requests == ["HEAD /v2/tools/cli/manifests/1"]
    assert run(client.manifest(cli(registry), IMAGE.digest)) == IMAGE.manifest


@pytest.mark.parametrize("lacking", ["digest_field", "head"])
def test_a_registry_without_the_digest_field_or_head_is_read(registry: Registry, client: RegistryClient, lacking: str) -> None:
    setattr(registry, lacking, False)
    assert run(client.digest(cli(registry), "1")) == IMAGE.digest


def test_what_is_not_there_is_gone(registry: Registry, client: RegistryClient) -> None:
    with pytest.raises(Gone):
        run(client.digest(cli(registry), "2"))
    with pytest.raises(Gone):
        run(client.manifest(cli(registry, "tools/other"), IMAGE.digest))


def test_other_bytes_than_those_of_the_digest_are_refused(registry: Registry, client: RegistryClient) -> None:
    registry.manifests["tools/cli", IMAGE.digest] = Image("evil").manifest
    with pytest.raises(Unreachable, match="other bytes"):
        run(client.manifest(cli(registry), IMAGE.digest))


def test_a_token_is_fetched_once_and_asks_for_reading_only(registry: Registry, client: RegistryClient) -> None:
    registry.login = "token"
    run(client.digest(cli(registry), "1"))
    run(client.digest(cli(registry), "1"))
    paths = [request.split("?")[0] for request in registry.requests]
    assert paths == [
        "HEAD /v2/tools/cli/manifests/1",
        "GET /token",
        "HEAD /v2/tools/cli/manifests/1",
        "HEAD /v2/tools/cli/manifests/1",
    ]
    assert "scope=repository%3Atools%2Fcli%3Apull" in registry.requests[1]


@pytest.mark.parametrize("kind", ["token", "basic"])
def test_a_login_is_used_where_one_is_wanted(registry: Registry, client: RegistryClient, kind: str) -> None:
    registry.login = (kind, "user", "secret")
    with pytest.raises(Unreachable):
        run(client.digest(cli(registry), "1"))
    with pytest.raises(Unreachable):
        run(client.digest(cli(registry), "1", {registry.host: ("user", "wrong")}))
    with pytest.raises(Unreachable):
        run(client.digest(cli(registry), "1", {"elsewhere.example.com": ("user", "secret")}))
    assert run(client.digest(cli(registry), "1", {registry.host: ("user", "secret")})) == IMAGE.digest


def test_a_login_does_not_follow_a_redirect_to_another_host(registry: Registry, client: RegistryClient) -> None:
    other = Registry()
    try:
        registry.login = ("basic", "user", "secret")
        other.push("tools/cli", "1", IMAGE)
        registry.redirects["/v2/tools/cli/manifests/1"] = f"http://{other.host}/v2/tools/cli/manifests/1"
        assert run(client.digest(cli(registry), "1", {registry.host: ("user", "secret")})) == IMAGE.digest
        assert registry.seen[-1][1] is not None
        assert [shown for _, shown in other.seen] == [None]
    finally:
        other.close()


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("http://registry.example.com/x", "not reached by https"),
        ("ftp://127.0.0.1/x", "not reached by https"),
        ("file:///etc/passwd", "not reached by https"),
        ("https:///x", "not reached by https"),
        ("http://[bad/x", "no address"),
        ("http://127.0.0.1:x/", "Port|port"),
    ],
)
def test_a_redirect_leads_to_https_only(registry: Registry, client: RegistryClient, target: str, why: str) -> None:
    registry.redirects["/v2/tools/cli/manifests/1"] = target
    with pytest.raises(Unreachable, match=why):
        run(client.digest(cli(registry), "1"))


def test_a_circle_of_redirects_ends(registry: Registry, client: RegistryClient) -> None:
    registry.redirects["/v2/tools/cli/manifests/1"] = "/v2/tools/cli/manifests/1"
    with pytest.raises(Unreachable, match="too often"):
        run(client.digest(cli(registry), "1"))
    assert len(registry.requests) == 5


def test_an_answer_that_is_too_large_is_refused(
    registry: Registry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SIZE_LIMIT", 100)
    with pytest.raises(Unreachable, match="more than"):
        run(client.manifest(cli(registry), IMAGE.digest))


def test_nobody_there_is_unreachable(client: RegistryClient) -> None:
    with pytest.raises(Unreachable):
        run(client.digest(references.parse("127.0.0.1:9/x/y:1"), "1"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_https_through_the_proxy_ends_at_the_registry(certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    registry = Registry(server)
    registry.push("tools/cli", "1", IMAGE)

    async def check() -> None:
        proxy = EgressProxy(Policy(), rule=lambda _: True)
        port = proxy.listen("127.0.0.1", 0)
        task = asyncio.create_task(proxy.run())
        known = Web(proxy=("127.0.0.1", port), context=ssl.create_default_context(cafile=str(certificate)))
        url = f"https://{registry.host}/v2/tools/cli/manifests/1"
        answer = await asyncio.to_thread(known.request, "GET", url, {})
        assert answer.body == IMAGE.manifest
        with pytest.raises(Unreachable, match="certificate"):
            await asyncio.to_thread(known.request, "GET", url.replace("127.0.0.1", "localhost"), {})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    try:
        run(check())
    finally:
        registry.close()


@pytest.mark.parametrize("content", [None, b"", b"text"])
def test_without_a_usable_bundle_the_images_authorities_hold(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    made = authorities(str(path))
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.cert_store_stats() == CONTEXT.cert_store_stats()


def test_https_wants_a_certificate_of_a_known_authority(certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    registry = Registry(server)
    try:
        registry.push("tools/cli", "1", IMAGE)
        url = f"https://{registry.host}/v2/tools/cli/manifests/1"
        with pytest.raises(Unreachable, match="certificate"):
            Web().request("GET", url, {})
        known = Web(context=authorities(str(certificate)))
        assert known.request("GET", url, {}).body == IMAGE.manifest
        with pytest.raises(Unreachable, match="certificate"):
            known.request("GET", url.replace("127.0.0.1", "localhost"), {})
    finally:
        registry.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.9.9.9:5000", True),
        ("[::1]:5000", True),
        ("docker.io", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("registry.example.com:5000", True),
        ("registry.example.com", False),
        ("plain.example.com:8080", True),
        ("192.0.2.7:5000", True),
        ("198.51.100.7", False),
    ],
)
def test_plain_http_is_for_this_machine_and_for_what_is_listed(host: str, expected: bool) -> None:
    listed = ("registry.example.com:5000", "Plain.example.com", "192.0.2.0/24", "not/a/network")
    assert is_insecure(host, listed) is expected


def test_docker_hub_answers_at_its_own_address() -> None:
    seen = []

    class Recorder(Web):
        def request(self, method: str, url: str, fields: dict[str, str]) -> web.Answer:
            seen.append(url)
            raise Unreachable("recorded")

    client = RegistryClient(Recorder())
    with pytest.raises(Unreachable):
        run(client.digest(references.parse("docker:cli"), "cli"))
    client.close()
    assert seen == [f"https://registry-1.{references.DEFAULT_HOST}/v2/library/docker/manifests/cli"]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (
            'Bearer realm="https://auth.example.com/token",service="a, b",scope="x"',
            ("bearer", {"realm": "https://auth.example.com/token", "service": "a, b", "scope": "x"}),
        ),
        ('bearer realm = "https://a\\"b" , error=insufficient', ("bearer", {"realm": 'https://a"b', "error": "insufficient"})),
        ('Basic realm="x"', ("basic", {"realm": "x"})),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_challenges_are_read(field: str, expected: object) -> None:
    assert challenge.parse(field) == expected


@pytest.mark.parametrize("realm", ["", "ftp://x/token", "/token", "https://"])
def test_a_realm_that_is_no_address_is_not_followed(realm: str) -> None:
    assert challenge.token_url(challenge.Challenge("bearer", {"realm": realm}), "x/y") is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nX: y"}', b'{"token": ""}'])
def test_an_answer_without_a_good_token_has_none(body: bytes) -> None:
    assert challenge.token(body) is None


def test_both_names_of_a_token_are_read_and_its_life_is_halved() -> None:
    assert challenge.token(b'{"token": "t", "expires_in": 300}') == ("t", 150.0)
    assert challenge.token(b'{"access_token": "t"}') == ("t", 30.0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"schemaVersion": 1}',
        b'{"schemaVersion": 2}',
        b'{"schemaVersion": 2, "config": {"digest": "sha256:00"}}',
        b'{"schemaVersion": 2, "config": {"digest": "sha256:%s"}, "manifests": []}' % (b"0" * 64),
        b'{"schemaVersion": 2, "layers": [], "manifests": []}',
        b'{"schemaVersion": 2, "manifests": {}}',
        b'{"schemaVersion": 2, "manifests": [1]}',
        b'{"schemaVersion": 2, "manifests": [%s]}' % b",".join([b'{"digest": "sha256:%s"}' % (b"0" * 64)] * 257),
        b'{"schemaVersion": 2, "config": {"digest": "sha256:%s"}, "config": {}}' % (b"0" * 64),
        b"[" * 100_000,
    ],
)
def test_what_is_no_manifest_of_one_kind_is_refused(data: bytes) -> None:
    with pytest.raises(BadManifest):
        parse(data)
