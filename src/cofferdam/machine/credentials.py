"""TLS material of one instance: an authority that signs two certificates and is then forgotten; and what else a boot hands over.

The server's half reaches the guest as SMBIOS strings that systemd takes for credentials; the client's half is a directory in the
form that DOCKER_CERT_PATH wants.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cofferdam.machine.hostos import private_directory, write_private

LIFETIME = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)
_SKEW = datetime.timedelta(days=1)
_NAMES = ("localhost", "cofferdam")
_ADDRESSES = ("127.0.0.1", "10.0.2.15")
SERVER_FILES = ("tls-ca", "tls-cert", "tls-key")
POLICY_FILE, AUTHORITIES_FILE, NETWORK_FILE, SHARES_FILE = "admin-settings", "ca", "network", "shares"
CLIENT_FILES = ("ca.pem", "cert.pem", "key.pem")


@dataclass(frozen=True)
class Credentials:
    """Where an instance's TLS material lies.

    Attributes:
        client: directory with ca.pem, cert.pem and key.pem.
        smbios: files with one SMBIOS string each, for QEMU.
    """

    client: Path
    smbios: tuple[Path, ...]


@dataclass(frozen=True)
class Material:
    """An authority's certificate, and certificate and key of a server and of a client that it signed; all PEM."""

    authority: bytes
    server: tuple[bytes, bytes] = field(repr=False)
    client: tuple[bytes, bytes] = field(repr=False)


def ensure_credentials(directory: Path, name: str, now: datetime.datetime | None = None) -> Credentials:
    """Make the material of instance `name`, or keep it when it is whole and valid for another month."""
    now = now or datetime.datetime.now(datetime.UTC)
    client = directory / "client"
    smbios = directory / "smbios"
    found = Credentials(client, tuple(smbios / item for item in SERVER_FILES))
    if not _usable(found, now):
        private_directory(directory)
        private_directory(client)
        private_directory(smbios)
        _make(found, name, now)
    return found


def handed_over(found: Credentials, name: str, content: bytes | None) -> Credentials:
    """The same with a further credential for the guest, or without it: then one of an earlier boot is removed."""
    path = found.smbios[0].with_name(name)
    if content is None:
        path.unlink(missing_ok=True)
        return found
    write_private(path, _credential(name, content))
    return Credentials(found.client, (*found.smbios, path))


def _credential(name: str, content: bytes) -> str:
    """The SMBIOS string that systemd takes for a credential."""
    return f"io.systemd.credential.binary:cofferdam.{name}={base64.b64encode(content).decode()}"


def _usable(found: Credentials, now: datetime.datetime) -> bool:
    files = [*(found.client / item for item in CLIENT_FILES), *found.smbios]
    if not all(file.is_file() for file in files):
        return False
    try:
        certificate = x509.load_pem_x509_certificate((found.client / "cert.pem").read_bytes())
    except ValueError:
        return False
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE


def _make(found: Credentials, name: str, now: datetime.datetime) -> None:
    # cert.pem is what `_usable` looks at: it goes first and comes last, so that no mixture of old and new looks whole.
    (found.client / "cert.pem").unlink(missing_ok=True)
    made = new_material(name, now)
    for file, content in zip(SERVER_FILES, (made.authority, *made.server), strict=True):
        write_private(found.smbios[0].with_name(file), _credential(file, content))
    for file, content in (("ca.pem", made.authority), ("key.pem", made.client[1]), ("cert.pem", made.client[0])):
        write_private(found.client / file, content)


def new_material(name: str, now: datetime.datetime) -> Material:
    """A new authority for instance `name`, whose key is forgotten, and the two certificates that it signs."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"cofferdam {name} authority")
    ca = _builder(subject, subject, ca_key.public_key(), now)
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(_usage(signs=True), critical=True)
    authority = ca.sign(ca_key, hashes.SHA256())

    alternatives: list[x509.GeneralName] = [x509.DNSName(item) for item in _NAMES]
    alternatives += [x509.IPAddress(ipaddress.ip_address(item)) for item in _ADDRESSES]
    server = _issue(authority, ca_key, "cofferdam", ExtendedKeyUsageOID.SERVER_AUTH, alternatives, now)
    client = _issue(authority, ca_key, f"cofferdam {name} client", ExtendedKeyUsageOID.CLIENT_AUTH, [], now)
    return Material(_pem(authority), server, client)


def _issue(
    authority: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    name: str,
    purpose: x509.ObjectIdentifier,
    alternatives: list[x509.GeneralName],
    now: datetime.datetime,
) -> tuple[bytes, bytes]:
    """A certificate and its key, both PEM, for one purpose."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_subject(name), authority.subject, key.public_key(), now)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    builder = builder.add_extension(_authority_id(authority), critical=False)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return _pem(builder.sign(ca_key, hashes.SHA256())), private


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _SKEW).not_valid_after(now + LIFETIME)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _authority_id(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
