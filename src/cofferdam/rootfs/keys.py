"""The debug profile's ssh keys, made per build: the image's own and the tests' one. Nothing secret is ever committed."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cofferdam.rootfs.compose import Entry

HOST_KEY_PATH = "etc/ssh/ssh_host_ed25519_key"
AUTHORIZED_PATH = "etc/ssh/authorized_keys"


@dataclass(frozen=True)
class KeyPair:
    """A key pair in OpenSSH's formats; the public one is a line without its end."""

    private: bytes
    public: bytes


def make_key(comment: str) -> KeyPair:
    """A new Ed25519 key pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return KeyPair(private, public + b" " + comment.encode())


def ssh_entries(host: KeyPair, user: KeyPair) -> list[Entry]:
    """What the image gets: its own private key, and the public key that may log in as root."""
    return [
        Entry(HOST_KEY_PATH, host.private, 0o600),
        Entry(f"{HOST_KEY_PATH}.pub", host.public + b"\n"),
        Entry(AUTHORIZED_PATH, user.public + b"\n", 0o600),
    ]


def write_private(path: Path, data: bytes) -> None:
    """Write a file that nobody but its owner could ever read, whole or not at all.

    Raises:
        OSError: it is there already, or cannot be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as sink, ExitStack() as undo:
        undo.callback(path.unlink)
        sink.write(data)
        sink.flush()
        undo.pop_all()
