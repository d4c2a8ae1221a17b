"""A company's authorities: what is taken, and what is refused with the file's name and the reason before anything boots."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cofferdam.errors import UsageError
from cofferdam.machine.authorities import LIMIT, read_authorities

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(name: str = "Company Root", begin: int = -10, end: int = 10, ca: bool | None = True) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(KEY.public_key())
    builder = (
        builder.serial_number(x509.random_serial_number()).not_valid_before(NOW + begin * DAY).not_valid_after(NOW + end * DAY)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


ROOT = certificate()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "company.pem"


def test_no_files_are_no_authorities():
    assert read_authorities([]) is None


def test_all_of_a_bundle_and_of_several_files_each_once_and_nothing_else(file, tmp_path):
    other = certificate("Other Root")
    file.write_bytes(b"# Company Root\n" + ROOT + b"text in between\n" + other + ROOT)
    (tmp_path / "second.pem").write_bytes(other.replace(b"\n", b"\r\n"))
    assert read_authorities([file, tmp_path / "second.pem"], NOW) == ROOT + other


REFUSED = {
    "empty": (b"", "no certificate in PEM"),
    "DER": (x509.load_pem_x509_certificate(ROOT).public_bytes(serialization.Encoding.DER), "no certificate in PEM"),
    "text": (b"company\n", "no certificate in PEM"),
    "damaged": (ROOT.replace(b"\nMII", b"\nAAA"), "a certificate in it is damaged"),
    "half": (ROOT[:200], "a certificate in it is damaged"),
    "expired": (certificate(end=-1), r"CN=Company Root has expired on 2029-12-31"),
    "not yet valid": (certificate(begin=2), "is not valid before 2030-01-03"),
    "a server's": (certificate(ca=False), "is not an authority's"),
    "without constraints": (certificate(ca=None), "is not an authority's"),
    "huge": (b" " * (2 << 20), "larger than a bundle"),
    "with a key": (
        ROOT + KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        "there is a private key in it",
    ),
    "with a key of another kind": (ROOT + b"-----BEGIN EC " + b"PRIVATE KEY-----\n", "there is a private key in it"),
    "too many": (b"".join(certificate(f"Root {number}") for number in range(40)), f"40 certificates of .*may have {LIMIT}"),
    "one of two expired": (ROOT + certificate("Old", end=-1), "CN=Old has expired"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_the_files_name_and_a_next_step(file, what):
    content, says = REFUSED[what]
    file.write_bytes(content)
    with pytest.raises(UsageError, match=says) as error:
        read_authorities([file], NOW)
    assert f"--ca-file {file}" in str(error.value)
    assert "PEM" in error.value.hint
    assert "PRIVATE KEY" not in str(error.value)


def test_a_name_with_control_characters_is_shown_without_them(file):
    file.write_bytes(certificate("a\x1b[2Jb", end=-1))
    with pytest.raises(UsageError) as error:
        read_authorities([file], NOW)
    assert "\x1b" not in str(error.value)


def test_a_file_that_is_not_there_or_a_directory(file):
    for path, says in ((file, "No such file"), (Path(os.devnull).parent, "Is a directory")):
        with pytest.raises(UsageError, match=says):
            read_authorities([path])
