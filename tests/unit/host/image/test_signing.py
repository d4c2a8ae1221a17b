"""Keys for Secure Boot: what `inv keys.new --secure-boot` makes, what is refused, and how a key reaches the signing program."""

from __future__ import annotations

import base64
import datetime
import os
import resource
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from cofferdam import releaseverbs
from cofferdam.errors import UsageError
from cofferdam.image.securekey import new_secure_boot_key
from cofferdam.image.signing import load_signer, read_certificate

URI = "pkcs11:token=desk;object=boot;type=private"


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("keys") / "new"
    releaseverbs.keys_new_secure_boot(str(directory))
    return directory


@pytest.fixture
def server(monkeypatch):
    """The socket of `p11-kit server`."""
    with tempfile.TemporaryDirectory(prefix="cd-") as name, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{name}/server")
        monkeypatch.setenv("P11_KIT_SERVER_ADDRESS", f"unix:path={name}/server")
        yield Path(name) / "server"


def test_a_new_key_is_its_owners_alone_and_fits_its_certificate(keys, capsys):
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert stat.S_IMODE((keys / "secure-boot.key").stat().st_mode) == 0o600
    signer = load_signer(str(keys))
    assert signer.key == str(keys / "secure-boot.key") and len(signer.identity) == 64
    assert load_signer(str(keys / "secure-boot.key"), str(keys / "secure-boot.crt")) == signer
    certificate = read_certificate(keys / "secure-boot.crt")
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days > 365 * 10


def test_a_key_is_never_replaced(keys):
    before = (keys / "secure-boot.key").read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        releaseverbs.keys_new_secure_boot(str(keys))
    assert (keys / "secure-boot.key").read_bytes() == before


def test_a_key_of_a_file_is_seen_under_a_name_that_tells_nothing(keys):
    signer = load_signer(str(keys))
    assert sorted(signer.binds().values()) == ["/keys/cert.pem", "/keys/key.pem"]
    assert "--secureboot-private-key=/keys/key.pem" in signer.arguments() and "--sign-kernel" in signer.arguments()
    assert not any("provider" in word for word in signer.arguments())
    assert signer.environment(7)["FAKETIME"] == "7", "the time in a signature is not that of the build"
    assert "P11_KIT_SERVER_ADDRESS" not in signer.environment(7)


def test_a_key_on_a_token_is_asked_for_through_its_server(keys, server, tmp_path):
    pin = tmp_path / "my pin"
    pin.write_text("1234")
    uri = f"{URI}?pin-source=file:{str(pin).replace(' ', '%20')}"
    signer = load_signer(uri, str(keys / "secure-boot.crt"))
    assert signer.binds() == {keys / "secure-boot.crt": "/keys/cert.pem", server: "/keys/token", pin: "/keys/pin"}
    assert f"--secureboot-private-key={URI}?pin-source=file:/keys/pin" in signer.arguments()
    assert "--signing-provider=pkcs11" in signer.arguments()
    assert signer.environment(7)["P11_KIT_SERVER_ADDRESS"] == "unix:path=/keys/token"
    assert signer.identity == load_signer(str(keys)).identity, "the certificate says who signs, wherever the key is"


def test_a_token_without_a_server_says_how_to_start_one(keys, monkeypatch):
    monkeypatch.delenv("P11_KIT_SERVER_ADDRESS", raising=False)
    with pytest.raises(UsageError) as caught:
        load_signer(URI, str(keys / "secure-boot.crt"))
    assert "p11-kit server" in caught.value.hint


@pytest.mark.parametrize("word", ["pin-value=1234", "module-name=x&pin-value=1234", "pin-source=file:/pin&pin-value=1234"])
def test_a_pin_in_the_words_of_a_command_is_refused_and_not_repeated(keys, server, word):
    with pytest.raises(UsageError, match="pin-value") as caught:
        load_signer(f"{URI}?{word}", str(keys / "secure-boot.crt"))
    assert "pin-source=file:" in caught.value.hint
    assert "1234" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("source", ["file:/nowhere/pin", "/nowhere/pin", "|pinomatic", "file:pin%20file"])
def test_a_pin_that_is_in_no_file_is_named_before_anything_is_built(keys, server, source):
    with pytest.raises(UsageError, match=r"pin-source.*not a file"):
        load_signer(f"{URI}?pin-source={source}", str(keys / "secure-boot.crt"))


def test_a_key_that_was_not_written_whole_is_not_left_behind(tmp_path):
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UsageError, match=r"/new: File too large"):
            new_secure_boot_key(tmp_path / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "new").iterdir()) == []
    assert len(new_secure_boot_key(tmp_path / "new")) == 2


def test_a_curve_that_nothing_here_knows_is_refused_as_well(keys, tmp_path):
    curve = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(curve.public_key()).serial_number(1)
    today = datetime.datetime.now(datetime.UTC)
    made = made.not_valid_before(today).not_valid_after(today + datetime.timedelta(days=1)).sign(curve, SHA256())
    # The names of P-256 and of one that is in no library, in DER.
    known, other = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030106")
    private = curve.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).replace(known, other)
    (tmp_path / "key").write_text(pem("PRIVATE KEY", private))
    (tmp_path / "crt").write_text(pem("CERTIFICATE", made.public_bytes(Encoding.DER).replace(known, other)))
    with pytest.raises(UsageError, match="is not an RSA key"):
        load_signer(str(tmp_path / "key"), str(keys / "secure-boot.crt"))
    with pytest.raises(UsageError, match="is not an RSA certificate"):
        read_certificate(tmp_path / "crt")


def pem(kind: str, data: bytes) -> str:
    """DER as text, under a kind's name."""
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(data).decode()}-----END {kind}-----\n"


def wrong(keys: Path, directory: Path) -> dict[str, tuple[str, str]]:
    """Keys and certificates that cannot be used, by what is said of them."""
    key = load_pem_private_key((keys / "secure-boot.key").read_bytes(), None)
    curve = ec.generate_private_key(ec.SECP256R1())
    files = {
        "encrypted": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
        "curve": curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "text": b"no key",
    }
    for name, data in files.items():
        (directory / name).write_bytes(data)
    good = str(keys / "secure-boot.key")
    certificate = str(keys / "secure-boot.crt")
    releaseverbs.keys_new_secure_boot(str(directory / "other"))
    return {
        "is encrypted": (str(directory / "encrypted"), certificate),
        "is not an RSA key": (str(directory / "curve"), certificate),
        "is not an RSA key in PEM": (str(directory / "text"), certificate),
        "is not an RSA certificate in PEM": (good, str(directory / "text")),
        "is not the certificate of": (good, str(directory / "other/secure-boot.crt")),
        "without its certificate": (good, ""),
    }


def test_what_firmware_would_not_take_is_refused(keys, tmp_path):
    for said, (key, certificate) in wrong(keys, tmp_path).items():
        with pytest.raises(UsageError, match=said):
            load_signer(key, certificate)


def test_a_key_that_cannot_be_read_is_named(tmp_path):
    os.makedirs(tmp_path / "empty")
    with pytest.raises(UsageError, match=r"secure-boot\.crt"):
        load_signer(str(tmp_path / "empty"))
