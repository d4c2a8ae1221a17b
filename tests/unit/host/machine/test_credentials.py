"""TLS material: a real handshake, both ways; who is let in, who is not; files, renewal, and what QEMU hands to the guest."""

from __future__ import annotations

import base64
import datetime
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from cofferdam.machine import credentials as module
from cofferdam.machine.credentials import (
    CLIENT_FILES,
    LIFETIME,
    POLICY_FILE,
    RENEW_BEFORE,
    Credentials,
    ensure_credentials,
    handed_over,
)
from cofferdam.machine.dockerping import client_tls

NOW = datetime.datetime.now(datetime.UTC)


def guest_files(made: Credentials) -> dict[str, bytes]:
    """What systemd makes of the SMBIOS strings."""
    found = {}
    for path in made.smbios:
        head, _, value = path.read_text(encoding="ascii").partition("=")
        kind, _, name = head.partition(":")
        assert kind == "io.systemd.credential.binary"
        found[name] = base64.b64decode(value, validate=True)
    return found


def server_tls(made: Credentials, directory: Path) -> ssl.SSLContext:
    for name, content in guest_files(made).items():
        (directory / name).write_bytes(content)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory / "cofferdam.tls-ca"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(directory / "cofferdam.tls-cert", directory / "cofferdam.tls-key")
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1") -> bytes:
    """What the client reads, over a socket pair."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as tls:
                tls.sendall(b"welcome")
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as tls:
            return tls.recv(100)
    finally:
        ours.close()
        thread.join()


@pytest.fixture
def made(tmp_path: Path) -> Credentials:
    return ensure_credentials(tmp_path / "credentials", "box")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "10.0.2.15", "cofferdam"])
def test_client_and_server_trust_each_other(made, tmp_path, name):
    client = client_tls(made.client)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert handshake(server_tls(made, tmp_path), client, name) == b"welcome"


def test_another_host_name_is_refused(made, tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_tls(made, tmp_path), client_tls(made.client), "example.com")


def test_a_client_without_certificate_is_refused(made, tmp_path):
    client = ssl.create_default_context(cafile=str(made.client / "ca.pem"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server_tls(made, tmp_path), client)


def test_the_client_of_another_instance_is_refused(made, tmp_path):
    other = ensure_credentials(tmp_path / "other", "other")
    client = ssl.create_default_context(cafile=str(made.client / "ca.pem"))
    client.load_cert_chain(other.client / "cert.pem", other.client / "key.pem")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server_tls(made, tmp_path), client)


def test_the_server_of_another_instance_is_refused(made, tmp_path):
    other = ensure_credentials(tmp_path / "other", "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_tls(other, tmp_path), client_tls(made.client))


def test_a_certificate_serves_one_purpose(made, tmp_path):
    """The client's certificate cannot play the server, nor the server's the client."""
    server_tls(made, tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(made.client / "cert.pem", made.client / "key.pem")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client_tls(made.client))
    client = ssl.create_default_context(cafile=str(made.client / "ca.pem"))
    client.load_cert_chain(tmp_path / "cofferdam.tls-cert", tmp_path / "cofferdam.tls-key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server_tls(made, tmp_path), client)


def test_the_chain_and_what_the_authority_may(made):
    ca, client = (x509.load_pem_x509_certificate((made.client / name).read_bytes()) for name in ("ca.pem", "cert.pem"))
    server = x509.load_pem_x509_certificate(guest_files(made)["cofferdam.tls-cert"])
    assert guest_files(made)["cofferdam.tls-ca"] == (made.client / "ca.pem").read_bytes()
    for certificate in (client, server):
        certificate.verify_directly_issued_by(ca)
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
    assert len({ca.serial_number, client.serial_number, server.serial_number}) == 3


def test_the_authority_key_is_nowhere(made):
    ca = x509.load_pem_x509_certificate((made.client / "ca.pem").read_bytes()).public_key().public_numbers()
    keys = [(made.client / "key.pem").read_bytes(), guest_files(made)["cofferdam.tls-key"]]
    publics = [module.serialization.load_pem_private_key(key, None).public_key().public_numbers() for key in keys]
    assert ca not in publics
    files = [path for path in made.client.parent.rglob("*") if path.is_file()]
    assert len(files) == 6, "nothing else is kept"


def test_files_are_private(made):
    for path in made.client.parent.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(made.client.parent.stat().st_mode) == 0o700
    assert {path.name for path in made.client.iterdir()} == set(CLIENT_FILES)


def test_a_policy_is_one_more_credential_and_goes_when_there_is_none(made):
    text = b'{\n "a": "\xc3\xbc"}'
    more = handed_over(made, POLICY_FILE, text)
    assert more.smbios[:3] == made.smbios
    assert guest_files(more)["cofferdam.admin-settings"] == text
    assert stat.S_IMODE(more.smbios[3].stat().st_mode) == 0o600
    assert ensure_credentials(made.client.parent, "box") == made, "the keys are kept"
    assert handed_over(made, POLICY_FILE, None) == made
    assert not more.smbios[3].exists()
    assert handed_over(made, POLICY_FILE, None) == made


def contents(made: Credentials) -> list[bytes]:
    return [path.read_bytes() for path in sorted(made.client.parent.rglob("*")) if path.is_file()]


def test_they_are_kept_while_they_are_good(made):
    before = contents(made)
    for later in (datetime.timedelta(0), LIFETIME - RENEW_BEFORE - datetime.timedelta(days=1)):
        assert ensure_credentials(made.client.parent, "box", NOW + later) == made
        assert contents(made) == before


@pytest.mark.parametrize("when", [NOW + LIFETIME - RENEW_BEFORE + datetime.timedelta(days=1), NOW - datetime.timedelta(days=3)])
def test_they_are_renewed_a_month_before_their_end_and_when_the_clock_went_back(made, tmp_path, when):
    before = contents(made)
    ensure_credentials(made.client.parent, "box", when)
    assert not set(before) & set(contents(made))
    certificate = x509.load_pem_x509_certificate((made.client / "cert.pem").read_bytes())
    assert certificate.not_valid_before_utc <= when < certificate.not_valid_after_utc - RENEW_BEFORE


@pytest.mark.parametrize("name", ["client/ca.pem", "client/key.pem", "client/cert.pem", "smbios/tls-key", "smbios/tls-ca"])
@pytest.mark.parametrize("damage", ["gone", "killed"])
def test_a_missing_file_or_a_killed_renewal_leaves_nothing_that_looks_whole(made, tmp_path, monkeypatch, name, damage):
    (made.client.parent / name).unlink()
    if damage == "killed":
        write, written = module.write_private, []

        def dies(path: Path, data: bytes | str) -> Path:
            if len(written) == 5:
                raise KeyboardInterrupt
            written.append(path)
            return write(path, data)

        monkeypatch.setattr(module, "write_private", dies)
        with pytest.raises(KeyboardInterrupt):
            ensure_credentials(made.client.parent, "box")
        monkeypatch.undo()
    ensure_credentials(made.client.parent, "box")
    assert handshake(server_tls(made, tmp_path), client_tls(made.client)) == b"welcome"


def test_a_damaged_certificate_is_made_anew(made, tmp_path):
    (made.client / "cert.pem").write_text("no certificate")
    ensure_credentials(made.client.parent, "box")
    assert handshake(server_tls(made, tmp_path), client_tls(made.client)) == b"welcome"
