"""A company's certificate authorities for the VM: read, judged and reduced to what the guest needs before anything boots."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cofferdam.errors import UsageError

LIMIT = 16 * 1024
"""Bytes of all certificates together. All SMBIOS strings of a machine have 64 KiB, and the policy has its part of them."""
_READ_LIMIT = 1 << 20
_HINT = "Give only your company's own authorities, in PEM; those of the system are in the VM already (docs/network.md)."


def read_authorities(files: Sequence[Path], now: datetime.datetime | None = None) -> bytes | None:
    """The certificates of these files as one PEM text, each once and without what stands around it; none without files.

    Raises:
        UsageError: a file cannot be used; the message names it.
    """
    if not files:
        return None
    now = now or datetime.datetime.now(datetime.UTC)
    found = dict.fromkeys(certificate for file in files for certificate in _certificates(file, now))
    text = b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in found)
    if len(text) > LIMIT:
        names = ", ".join(map(str, files))
        message = f"--ca-file {names}: {len(found)} certificates of {len(text)} bytes; together they may have {LIMIT}"
        raise UsageError(message, hint=_HINT)
    return text


def _certificates(file: Path, now: datetime.datetime) -> list[x509.Certificate]:
    try:
        with file.open("rb") as source:
            data = source.read(_READ_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"--ca-file {file}: {error.strerror}", hint="Name a readable file.") from error
    if problem := _not_pem(data):
        raise UsageError(f"--ca-file {file}: {problem}", hint=_HINT)
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise UsageError(f"--ca-file {file}: a certificate in it is damaged: {error}", hint=_HINT) from error
    for certificate in found:
        if problem := _unfit(certificate, now):
            raise UsageError(f"--ca-file {file}: {_name(certificate)} {problem}", hint=_HINT)
    return found


def _not_pem(data: bytes) -> str:
    if len(data) > _READ_LIMIT:
        return "larger than a bundle of certificates is"
    if b"PRIVATE KEY-----" in data:
        return "there is a private key in it, which must not leave this machine"
    return "" if b"-----BEGIN CERTIFICATE-----" in data else "no certificate in PEM in it (-----BEGIN CERTIFICATE-----)"


def _unfit(certificate: x509.Certificate, now: datetime.datetime) -> str:
    if now >= certificate.not_valid_after_utc:
        return f"has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if now < certificate.not_valid_before_utc:
        return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        authority = False
    return "" if authority else "is not an authority's (basic constraints without CA), but of one server or person"


def _name(certificate: x509.Certificate) -> str:
    text = certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number:x}"
    return "".join(character if character.isprintable() else "?" for character in text)
