"""A key on a token (SoftHSM, lent by `p11-kit server`) signs a disk to the same bytes as the same key in a file."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from cofferdam.cache import file_digest
from cofferdam.errors import BuildError
from cofferdam.image.formats import chosen_signer, make_artefact
from cofferdam.image.model import Image
from cofferdam.image.securekey import new_secure_boot_key
from cofferdam.progress import Progress
from vmtest.machines import Machines

DRIVER = Path("/usr/lib/softhsm/libsofthsm2.so")
TOKEN, PIN = "desk", "1234"
QUIET = Progress(quiet=True)

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.skipif(not DRIVER.exists() or shutil.which("p11-kit") is None, reason="no softhsm2 and p11-kit here"),
]


@pytest.fixture(scope="module")
def image(machines: Machines) -> Image:
    return machines.image("debug")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return new_secure_boot_key(tmp_path / "keys")[0].parent


@pytest.fixture
def token(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A token with the key of `keys`, and its URI without the PIN."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "conf"))
    key = load_pem_private_key((keys / "secure-boot.key").read_bytes(), None)
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    run("softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--so-pin", "5678", "--pin", PIN)
    run("softhsm2-util", "--import", str(tmp_path / "key"), "--token", TOKEN, "--label", "boot", "--id", "01", "--pin", PIN)
    with tempfile.TemporaryDirectory(prefix="cd-") as short:
        words = [
            "p11-kit",
            "server",
            "--foreground",
            "--name",
            f"{short}/socket",
            "--provider",
            str(DRIVER),
            f"pkcs11:token={TOKEN}",
        ]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
            deadline = time.monotonic() + 30
            while not Path(f"{short}/socket").is_socket():
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            monkeypatch.setenv("P11_KIT_SERVER_ADDRESS", f"unix:path={short}/socket")
            yield f"pkcs11:token={TOKEN};object=boot;type=private"
            server.terminate()


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def with_pin(token: str, directory: Path, pin: str) -> str:
    (directory / "pin").write_text(pin)
    return f"{token}?pin-source=file:{directory}/pin"


def made(image: Image, key: str, certificate: Path) -> str:
    """Checksum of a disk that this key has signed, made now."""
    artefact = make_artefact(image, "raw", QUIET, signer=chosen_signer("raw", key, str(certificate)))
    found = file_digest(artefact.path)
    shutil.rmtree(artefact.path.parent)
    return found


def test_a_token_signs_the_same_bytes_as_a_file(image: Image, keys: Path, token: str, tmp_path: Path) -> None:
    certificate = keys / "secure-boot.crt"
    ours = made(image, with_pin(token, tmp_path, PIN), certificate)
    assert ours == made(image, str(keys), certificate)


def test_a_wrong_pin_an_unknown_key_and_a_foreign_certificate_make_no_disk(
    image: Image, keys: Path, token: str, tmp_path: Path
) -> None:
    certificate = keys / "secure-boot.crt"
    for uri, pin in ((token, "9999"), (token.replace("boot", "other"), PIN)):
        with pytest.raises(BuildError, match="the token gives no key pkcs11:token=desk;object="):
            made(image, with_pin(uri, tmp_path, pin), certificate)
    foreign = new_secure_boot_key(tmp_path / "foreign")[1]
    with pytest.raises(BuildError, match="the certificate is not that of the key"):
        made(image, with_pin(token, tmp_path, PIN), foreign)
