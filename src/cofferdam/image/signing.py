"""Who signs a unified kernel image for Secure Boot: a key of a file or a token, and the certificate that firmware is told."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cofferdam.errors import UsageError

KEY, CERTIFICATE = "secure-boot.key", "secure-boot.crt"
"""Names in a directory of `inv keys.new --secure-boot`."""

_TOKEN = "pkcs11:"  # noqa: S105 - the scheme of RFC 7512
_ADDRESS = "P11_KIT_SERVER_ADDRESS"
_CLIENT = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"
"""Tokens have drivers, which stay outside: `p11-kit server` lends one, and this asks it."""

_CLOCK = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
_PIN_FILE = re.compile(r"(?<=[?&])pin-source=(?:file:)?([^&]+)")
_PIN_VALUE = re.compile(r"[;?&]pin-value=")
_SIZES = (2048, 3072, 4096)
_MAKE = "`inv keys.new --secure-boot DIR` makes a key and its certificate."


@dataclass(frozen=True)
class Signer:
    """A key and its certificate.

    Attributes:
        key: file of a private key (PEM), or a PKCS#11 URI (RFC 7512).
        certificate: file of the certificate (PEM).
        identity: SHA-256 of the certificate, in hexadecimal digits; what is signed is cached by it.
        server: the socket of `p11-kit server`, for a key on a token.
    """

    key: str
    certificate: Path
    identity: str
    server: Path | None = None

    def arguments(self) -> list[str]:
        """What ukify is told."""
        source = _PIN_FILE.sub("pin-source=file:/keys/pin", self.key) if self.server is not None else "/keys/key.pem"
        words = ["--signtool=systemd-sbsign", f"--secureboot-private-key={source}", "--secureboot-certificate=/keys/cert.pem"]
        # The kernel too: a stub of another version may ask firmware to start it.
        return [*words, "--sign-kernel", *(["--signing-provider=pkcs11"] if self.server is not None else [])]

    def measure_arguments(self) -> list[str]:
        """What systemd-measure is told."""
        if self.server is None:
            return ["--private-key=/keys/key.pem", "--certificate=/keys/cert.pem"]
        source = _PIN_FILE.sub("pin-source=file:/keys/pin", self.key)
        return [f"--private-key={source}", "--private-key-source=provider:pkcs11", "--certificate=/keys/cert.pem"]

    def public_key(self) -> bytes:
        """The public key, PEM."""
        public = read_certificate(self.certificate).public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def public_key_digest(self) -> str:
        """SHA-256 of `public_key`, in hexadecimal digits."""
        return hashlib.sha256(self.public_key()).hexdigest()

    def binds(self) -> dict[Path, str]:
        """What the image tools tree has to see."""
        files = {self.certificate.resolve(): "/keys/cert.pem"}
        if self.server is None:
            return files | {Path(self.key).resolve(): "/keys/key.pem"}
        pin = _PIN_FILE.search(self.key)
        return files | {self.server: "/keys/token"} | ({Path(unquote(pin[1])).resolve(): "/keys/pin"} if pin else {})

    def environment(self, epoch: int) -> dict[str, str]:
        """Variables that lead to the token, and to a clock that stands still: a signature holds the time.

        Args:
            epoch: where it stands, in seconds.
        """
        clock = {"LD_PRELOAD": _CLOCK, "FAKETIME": f"{epoch}", "FAKETIME_FMT": "%s"}
        token = {_ADDRESS: "unix:path=/keys/token", "PKCS11_PROVIDER_MODULE": _CLIENT} if self.server is not None else {}
        return clock | token


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
    identity = found.fingerprint(SHA256()).hex()
    if key.startswith(_TOKEN):
        _require_pin(key)
        return Signer(key, Path(certificate), identity, _server())
    if _read_key(Path(key)).public_key() != found.public_key():
        raise UsageError(f"{certificate} is not the certificate of {key}", hint=_MAKE)
    return Signer(key, Path(certificate), identity)


def _require_pin(uri: str) -> None:
    """Refuse a PIN that others could read, or that is not where the URI says.

    Raises:
        UsageError: it is in the URI, which every user sees among this machine's processes, or its file is not there.
    """
    hint = "Write the PIN into a file that you alone can read, and name it: pin-source=file:/path/of/pin."
    if _PIN_VALUE.search(uri):
        raise UsageError("a PKCS#11 URI with pin-value shows the PIN to every user of this machine", hint=hint)
    pin = _PIN_FILE.search(uri)
    if pin and not Path(unquote(pin[1])).is_file():
        raise UsageError(f"pin-source of the PKCS#11 URI: {unquote(pin[1])} is not a file", hint=hint)


def _server() -> Path:
    """The socket that lends the token.

    Raises:
        UsageError: there is none.
    """
    kind, _, place = os.environ.get(_ADDRESS, "").partition("=")
    path = Path(unquote(place))
    if kind != "unix:path" or not path.is_socket():
        hint = "Run `p11-kit server --name SOCKET --provider DRIVER.so 'pkcs11:'` and set what it prints."
        raise UsageError(f"a key on a token is asked for through {_ADDRESS}, which names no socket", hint=hint)
    return path


def read_certificate(path: Path) -> x509.Certificate:
    """A certificate that firmware takes.

    Raises:
        UsageError: it cannot be read, or is of another kind than RSA with 2048 to 4096 bits.
    """
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        public = found.public_key()
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not an RSA certificate in PEM: {error}", hint=_MAKE) from error
    if not isinstance(public, RSAPublicKey) or public.key_size not in _SIZES:
        raise UsageError(f"{path}: firmware takes RSA certificates of 2048 to 4096 bits", hint=_MAKE)
    return found


def _read_key(path: Path) -> RSAPrivateKey:
    try:
        found = load_pem_private_key(path.read_bytes(), None)
    except TypeError as error:
        raise UsageError(f"{path} is encrypted", hint="Sign with a plain key, or with one on a token (pkcs11:…).") from error
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not an RSA key in PEM: {error}", hint=_MAKE) from error
    if not isinstance(found, RSAPrivateKey):
        raise UsageError(f"{path} is not an RSA key", hint=_MAKE)
    return found
