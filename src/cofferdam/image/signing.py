"""Who signs a unified kernel image for Secure Boot: a key of a file or a token, and the certificate that firmware is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cofferdam.errors import UsageError

KEY, CERTIFICATE = "secure-boot.key", "secure-boot.crt"
"""Names in a directory of `inv keys.new --secure-boot`."""

_TOKEN = "pkcs11:"  # noqa: S105 - the scheme of RFC 7512
_MODULE = "PKCS11_PROVIDER_MODULE"
_SIZES = (2048, 3072, 4096)
_MAKE = "`inv keys.new --secure-boot DIR` makes a key and its certificate."


@dataclass(frozen=True)
class Signer:
    """A key and its certificate.

    Attributes:
        key: file of a private key (PEM), or a PKCS#11 URI (RFC 7512).
        certificate: file of the certificate (PEM).
        identity: SHA-256 of the certificate, in hexadecimal digits; what is signed is cached by it.
        token: for a PKCS#11 URI: variables and paths by which the token is reached.
    """

    key: str
    certificate: Path
    identity: str
    token: Mapping[str, str] = field(default_factory=dict)

    @property
    def on_token(self) -> bool:
        """Whether the key is on a token."""
        return self.key.startswith(_TOKEN)

    def arguments(self) -> list[str]:
        """What ukify is told."""
        source = self.key if self.on_token else "/keys/key.pem"
        words = ["--signtool=systemd-sbsign", f"--secureboot-private-key={source}", "--secureboot-certificate=/keys/cert.pem"]
        # The kernel too: a stub of another version may ask firmware to start it.
        return [*words, "--sign-kernel", *(["--signing-provider=pkcs11"] if self.on_token else [])]

    def binds(self) -> dict[Path, str]:
        """What the image tools tree has to see."""
        files = {self.certificate.resolve(): "/keys/cert.pem"}
        return files if self.on_token else files | {Path(self.key).resolve(): "/keys/key.pem"}

    def environment(self) -> dict[str, str]:
        """Variables that lead to the token."""
        return dict(self.token)


def load_signer(key: str, certificate: str = "") -> Signer:
    """The signer that the options of a command name.

    Args:
        key: a directory of `inv keys.new --secure-boot`, a private key's file (PEM), or a PKCS#11 URI.
        certificate: file of the certificate; not needed with a directory.

    Raises:
        UsageError: something cannot be read, is not of a kind that firmware takes, or does not belong together.
    """
    if not key.startswith(_TOKEN) and Path(key).is_dir():
        key, certificate = str(Path(key) / KEY), certificate or str(Path(key) / CERTIFICATE)
    if not certificate:
        raise UsageError("a key for Secure Boot without its certificate", hint="Name it with --certificate FILE (PEM).")
    found = read_certificate(Path(certificate))
    public = found.public_key()
    if not key.startswith(_TOKEN) and _read_key(Path(key)).public_key() != public:
        raise UsageError(f"{certificate} is not the certificate of {key}", hint=_MAKE)
    return Signer(key, Path(certificate), found.fingerprint(SHA256()).hex())


def read_certificate(path: Path) -> x509.Certificate:
    """A certificate that firmware takes.

    Raises:
        UsageError: it cannot be read, or is of another kind than RSA with 2048 to 4096 bits.
    """
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a certificate in PEM: {error}", hint=_MAKE) from error
    public = found.public_key()
    if not isinstance(public, RSAPublicKey) or public.key_size not in _SIZES:
        raise UsageError(f"{path}: firmware takes RSA certificates of 2048 to 4096 bits", hint=_MAKE)
    return found


def _read_key(path: Path) -> RSAPrivateKey:
    try:
        found = load_pem_private_key(path.read_bytes(), None)
    except TypeError as error:
        raise UsageError(f"{path} is encrypted", hint="Sign with a plain key, or with one on a token (pkcs11:…).") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a private key in PEM: {error}", hint=_MAKE) from error
    if not isinstance(found, RSAPrivateKey):
        raise UsageError(f"{path} is not an RSA key", hint=_MAKE)
    return found
