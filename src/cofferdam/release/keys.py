"""Keys of releases: made once, kept offline, never in the project."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from cofferdam.errors import UsageError
from cofferdam.release.signature import signer_line
from cofferdam.rootfs.keys import write_private

SIGNING_KEY = "release.key"
ALLOWED = "allowed_signers"
PRINCIPAL = "cofferdam-release"


def new_signing_key(directory: Path, passphrase: bytes = b"") -> list[Path]:
    """Make the key that signs releases: the private one, the public one, and the list of who may sign.

    Args:
        directory: where; made when it is not there. The private key is readable for its owner alone.
        passphrase: what the private key is encrypted with; empty leaves it plain.

    Raises:
        UsageError: one of the files is there already, or cannot be written.
    """
    files = [directory / name for name in (SIGNING_KEY, f"{SIGNING_KEY}.pub", ALLOWED)]
    if there := [path for path in files if path.exists() or path.is_symlink()]:
        raise UsageError(f"{there[0]} is there already", hint="Keys are never replaced: name an empty directory.")
    key = Ed25519PrivateKey.generate()
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(files[0], key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption))
        files[1].write_text(f"{public} {PRINCIPAL}\n", encoding="ascii")
        files[2].write_text(signer_line(PRINCIPAL, key.public_key()), encoding="ascii")
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}", hint="Name a directory that you can write.") from error
    return files


def load_signing_key(path: Path, passphrase: bytes = b"") -> Ed25519PrivateKey:
    """The key that signs releases, from a file.

    Raises:
        UsageError: it cannot be read, is not Ed25519, or the passphrase is missing or wrong.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="`inv keys.new DIR` makes a key.") from error
    return read_signing_key(data, str(path), passphrase)


def read_signing_key(data: bytes, name: str, passphrase: bytes = b"") -> Ed25519PrivateKey:
    """The key that signs releases, from the bytes of its file.

    Args:
        data: the bytes.
        name: what it is called in messages.
        passphrase: what it is encrypted with.

    Raises:
        UsageError: it is not Ed25519, or the passphrase is missing or wrong.
    """
    try:
        key = load_ssh_private_key(data, passphrase or None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{name}: {error}", hint="Is the passphrase right? Give it with --passphrase-file FILE.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{name} is not an Ed25519 key", hint="`inv keys.new DIR` makes one.")
    return key


def read_passphrase(path: Path) -> bytes:
    """The passphrase in a file: its first line.

    Raises:
        UsageError: the file cannot be read, or the line is empty.
    """
    try:
        line = path.read_bytes().partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise UsageError(f"--passphrase-file {path}: {error.strerror}", hint="Name a file whose first line it is.") from error
    if not line:
        raise UsageError(f"--passphrase-file {path}: its first line is empty", hint="Name a file whose first line it is.")
    return line
