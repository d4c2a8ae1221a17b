"""Signatures in the format of `ssh-keygen -Y sign`, made and checked here, with Ed25519 keys and one namespace."""

from __future__ import annotations

import base64
import binascii
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha512
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cofferdam.errors import CofferdamError

NAMESPACE = "cofferdam-release"
_KIND = b"ssh-ed25519"
_MAGIC = b"SSHSIG"
_HASH = b"sha512"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_WIDTH = 70


class SignatureRefusedError(CofferdamError):
    """A signature, or the list of who may sign, that is not accepted."""


@dataclass(frozen=True)
class Signer:
    """Somebody who may sign: a line of an allowed_signers file."""

    principal: str
    key: bytes


def sign(data: bytes, key: Ed25519PrivateKey) -> str:
    """The armoured signature of data."""
    public = _public_blob(key.public_key())
    signature = _string(_KIND) + _string(key.sign(_signed(data)))
    blob = _MAGIC + (1).to_bytes(4, "big") + b"".join(map(_string, (public, NAMESPACE.encode(), b"", _HASH, signature)))
    text = base64.b64encode(blob).decode("ascii")
    lines = [text[start : start + _WIDTH] for start in range(0, len(text), _WIDTH)]
    return "\n".join([_BEGIN, *lines, _END]) + "\n"


def check(data: bytes, armoured: str, allowed: list[Signer]) -> Signer:
    """Who has signed data.

    Raises:
        SignatureRefusedError: nobody who is allowed to, or something else, or for another purpose.
    """
    key, signature = _parse(armoured)
    signer = next((each for each in allowed if each.key == key), None)
    if signer is None:
        raise SignatureRefusedError("it is by a key that is not allowed", hint="Use the right allowed_signers file.")
    try:
        kind, raw = _fields(signature, 2)
        if kind != _KIND:
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(_raw_key(key)).verify(raw, _signed(data))
    except (InvalidSignature, ValueError):
        raise SignatureRefusedError("it is not of these contents", hint="The folder was changed after it was signed.") from None
    return signer


def allowed_signers(path: Path) -> list[Signer]:
    """Who may sign releases, from a file in ssh-keygen's format.

    Raises:
        SignatureRefusedError: it cannot be read, names nobody, or has a line that is not understood.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SignatureRefusedError(
            f"{path}: {error}", hint="Name the allowed_signers file of who makes the releases: --key FILE."
        ) from error
    signers = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                signers.append(_signer(line))
            except ValueError as error:
                raise SignatureRefusedError(f"{path}:{number}: {error}", hint="A line is `NAME ssh-ed25519 KEY`.") from error
    if not signers:
        raise SignatureRefusedError(f"{path} names nobody", hint="A line is `NAME ssh-ed25519 KEY`.")
    return signers


def signer_line(principal: str, key: Ed25519PublicKey) -> str:
    """The line of an allowed_signers file for a key."""
    public = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    return f'{principal} namespaces="{NAMESPACE}" {public}\n'


def _signer(line: str) -> Signer:
    words = shlex.split(line)
    kind = next((index for index, word in enumerate(words) if word == _KIND.decode()), 0)
    if kind not in (1, 2) or len(words) < kind + 2:
        raise ValueError("no Ed25519 key")
    if kind == 2 and words[1] != f"namespaces={NAMESPACE}":
        # One that is not understood may say that the key is not to be accepted.
        raise ValueError(f"option `{words[1]}` is not supported")
    if not re.fullmatch(r"[\w.@+-]+", words[0]):
        raise ValueError(f"`{words[0]}` is no name")
    blob = base64.b64decode(words[kind + 1], validate=True)
    _raw_key(blob)
    return Signer(words[0], blob)


def _parse(armoured: str) -> tuple[bytes, bytes]:
    """Key and signature of an armoured signature in our namespace."""
    match = re.fullmatch(rf"{_BEGIN}\n([A-Za-z0-9+/=\n]+)\n{_END}\n?", armoured)
    text = (match[1] if match else "").replace("\n", "")
    try:
        blob = base64.b64decode(text, validate=True)
        # Written in one way only: bits that nobody reads are not to differ either.
        if base64.b64encode(blob).decode("ascii") != text or not blob.startswith(_MAGIC + (1).to_bytes(4, "big")):
            raise ValueError("no SSH signature")
        key, namespace, reserved, hashed, signature = _fields(blob[len(_MAGIC) + 4 :], 5)
        _raw_key(key)
    except (ValueError, binascii.Error) as error:
        raise SignatureRefusedError(f"it cannot be read: {error}", hint="It has to be one of `ssh-keygen -Y sign`.") from error
    if (namespace, reserved, hashed) != (NAMESPACE.encode(), b"", _HASH):
        raise SignatureRefusedError(f"it is for another purpose: {namespace.decode(errors='replace')}")
    return key, signature


def _signed(data: bytes) -> bytes:
    return _MAGIC + b"".join(map(_string, (NAMESPACE.encode(), b"", _HASH, sha512(data).digest())))


def _public_blob(key: Ed25519PublicKey) -> bytes:
    return _string(_KIND) + _string(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _raw_key(blob: bytes) -> bytes:
    kind, raw = _fields(blob, 2)
    if kind != _KIND or len(raw) != 32:
        raise ValueError("no Ed25519 key")
    return raw


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _fields(blob: bytes, count: int) -> list[bytes]:
    """The strings of a blob, exactly so many."""
    fields = list(_strings(blob))
    if len(fields) != count:
        raise ValueError(f"{len(fields)} fields instead of {count}")
    return fields


def _strings(blob: bytes) -> Iterator[bytes]:
    while blob:
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size:
            raise ValueError("cut off")
        yield blob[4 : 4 + size]
        blob = blob[4 + size :]
