"""The key for Secure Boot and its certificate: made once, kept where no build runs, never in the project."""

from __future__ import annotations

import datetime
from contextlib import ExitStack
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cofferdam.errors import UsageError
from cofferdam.image.signing import CERTIFICATE, KEY
from cofferdam.rootfs.keys import write_private

_BITS = 2048
"""All firmware takes it; longer ones some does not."""

_YEARS = 20
"""Firmware looks at no clock; other programs do."""


def new_secure_boot_key(directory: Path) -> list[Path]:
    """Make a key and the certificate that firmware is told.

    Args:
        directory: where; made when it is not there. The key is readable for its owner alone.

    Returns:
        The files: key and certificate, both PEM.

    Raises:
        UsageError: one of the files is there already, or cannot be written; then neither is left behind.
    """
    files = [directory / KEY, directory / CERTIFICATE]
    if there := [path for path in files if path.exists() or path.is_symlink()]:
        raise UsageError(f"{there[0]} is there already", hint="Keys are never replaced: name an empty directory.")
    key = generate_private_key(65537, _BITS)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A key without its certificate would stand in the next one's way.
        with ExitStack() as undo:
            write_private(files[0], private)
            undo.callback(files[0].unlink)
            write_private(files[1], _certificate(key).public_bytes(Encoding.PEM))
            files[1].chmod(0o644)
            undo.pop_all()
    except OSError as error:
        place = error.filename or directory
        raise UsageError(f"{place}: {error.strerror}", hint="Name a directory that you can write.") from error
    return files


def _certificate(key: RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cofferdam Secure Boot")])
    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(today)
    made = made.not_valid_after(today + datetime.timedelta(days=365 * _YEARS))
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return made.sign(key, SHA256())
