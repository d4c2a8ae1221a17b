"""Signatures, against the real ssh-keygen in both directions, and the keys that make them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cofferdam.errors import UsageError
from cofferdam.release.keys import load_signing_key, new_signing_key, read_passphrase
from cofferdam.release.signature import NAMESPACE, SignatureRefusedError, allowed_signers, check, sign

DATA = b"0123  some file\n" * 1000


def keygen(*words: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is not installed")
    return subprocess.run(["ssh-keygen", *map(str, words)], input=data, capture_output=True, check=False)


@pytest.mark.parametrize("passphrase", [b"", b"correct horse \xc3\xa4"])
def test_ssh_keygen_accepts_our_signature(tmp_path, passphrase):
    new_signing_key(tmp_path / "keys", passphrase)
    (tmp_path / "sig").write_text(sign(DATA, load_signing_key(tmp_path / "keys/release.key", passphrase)))
    allowed = tmp_path / "keys/allowed_signers"
    words = ["-Y", "verify", "-f", allowed, "-I", "cofferdam-release", "-n", NAMESPACE, "-s", tmp_path / "sig"]
    done = keygen(*words, data=DATA)
    assert done.returncode == 0, done.stderr
    assert keygen(*words, data=DATA + b"x").returncode != 0


def test_we_accept_ssh_keygens_signature(tmp_path):
    new_signing_key(tmp_path / "keys")
    (tmp_path / "data").write_bytes(DATA)
    done = keygen("-Y", "sign", "-f", tmp_path / "keys/release.key", "-n", NAMESPACE, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    signature = (tmp_path / "data.sig").read_text()
    signers = allowed_signers(tmp_path / "keys/allowed_signers")
    assert check(DATA, signature, signers).principal == "cofferdam-release"
    assert signature == sign(DATA, load_signing_key(tmp_path / "keys/release.key")), "Ed25519 signs alike everywhere"


def test_a_key_that_ssh_keygen_made_signs_too(tmp_path):
    done = keygen("-q", "-t", "ed25519", "-N", "secret", "-C", "me@here", "-f", tmp_path / "key")
    assert done.returncode == 0, done.stderr
    (tmp_path / "allowed").write_text(f"# who may\n\nme@here {(tmp_path / 'key.pub').read_text()}")
    signature = sign(DATA, load_signing_key(tmp_path / "key", b"secret"))
    assert check(DATA, signature, allowed_signers(tmp_path / "allowed")).principal == "me@here"
    for wrong in (b"", b"other"):
        with pytest.raises(UsageError, match="key"):
            load_signing_key(tmp_path / "key", wrong)


def test_another_namespace_is_refused(tmp_path):
    new_signing_key(tmp_path / "keys")
    (tmp_path / "data").write_bytes(DATA)
    keygen("-Y", "sign", "-f", tmp_path / "keys/release.key", "-n", "git", tmp_path / "data")
    with pytest.raises(SignatureRefusedError, match="another purpose: git"):
        check(DATA, (tmp_path / "data.sig").read_text(), allowed_signers(tmp_path / "keys/allowed_signers"))


def test_contents_key_and_form_are_all_checked(tmp_path):
    new_signing_key(tmp_path / "keys")
    new_signing_key(tmp_path / "others")
    good = sign(DATA, load_signing_key(tmp_path / "keys/release.key"))
    signers = allowed_signers(tmp_path / "keys/allowed_signers")
    check(DATA, good, signers)
    with pytest.raises(SignatureRefusedError, match="not of these contents"):
        check(DATA[:-1], good, signers)
    with pytest.raises(SignatureRefusedError, match="not allowed"):
        check(DATA, good, allowed_signers(tmp_path / "others/allowed_signers"))
    middle = len(good) // 2
    for broken in ("", "x", good[:-40], good.replace("SSH", "PGP"), good + "more", good[:middle] + good[middle + 4 :]):
        with pytest.raises(SignatureRefusedError):
            check(DATA, broken, signers)


def test_no_single_changed_character_passes(tmp_path):
    new_signing_key(tmp_path / "keys")
    good = sign(b"data", load_signing_key(tmp_path / "keys/release.key"))
    signers = allowed_signers(tmp_path / "keys/allowed_signers")
    start, end = good.index("\n") + 1, good.rindex("\n-----END")
    for index in range(start, end):
        changed = good[:index] + ("B" if good[index] == "A" else "A") + good[index + 1 :]
        if changed[index] != "\n":
            with pytest.raises(SignatureRefusedError):
                check(b"data", changed, signers)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "names nobody"),
        ("me ssh-ed25519", "no Ed25519 key"),
        ("me ssh-rsa AAAA", "no Ed25519 key"),
        ("ssh-ed25519 AAAA", "no Ed25519 key"),
        ("me ssh-ed25519 AAAA", "allowed:1"),
        ("me cert-authority KEY", "option `cert-authority` is not supported"),
        ('me valid-before="2020" KEY', "is not supported"),
        ('me namespaces="git" KEY', "is not supported"),
        ("* KEY", "is no name"),
    ],
)
def test_a_line_that_is_not_understood_lets_nobody_in(tmp_path, line, said):
    new_signing_key(tmp_path / "keys")
    key = " ".join((tmp_path / "keys/release.key.pub").read_text().split()[:2])
    (tmp_path / "allowed").write_text(line.replace("KEY", key) + "\n")
    with pytest.raises(SignatureRefusedError, match="allowed") as caught:
        allowed_signers(tmp_path / "allowed")
    assert said in str(caught.value)


def test_keys_are_private_and_never_replaced(tmp_path):
    private, _, _ = new_signing_key(tmp_path / "keys")
    assert private.stat().st_mode & 0o777 == 0o600 and private.parent.stat().st_mode & 0o777 == 0o700
    before = private.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        new_signing_key(tmp_path / "keys")
    private.unlink()
    with pytest.raises(UsageError, match=r"release\.key\.pub is there already"):
        new_signing_key(tmp_path / "keys")
    assert not private.exists() and b"PRIVATE" in before


def test_a_passphrase_comes_from_the_first_line(tmp_path):
    (tmp_path / "word").write_bytes(b"one two\r\nthree\n")
    assert read_passphrase(tmp_path / "word") == b"one two"
    (tmp_path / "word").write_bytes(b"\nthree\n")
    for path in (tmp_path / "word", tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="--passphrase-file"):
            read_passphrase(path)
    with pytest.raises(UsageError, match=r"inv keys\.new|No such file"):
        load_signing_key(tmp_path / "nowhere")
