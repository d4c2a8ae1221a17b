"""Releases go to Debian's docker-registry on the loopback and come back, or are refused; no VM is booted."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bcrypt
import pytest
import zstandard

from cofferdam.errors import HostError, UsageError
from cofferdam.machine.credentials import ensure_credentials
from cofferdam.progress import Progress
from cofferdam.release import reference as references
from cofferdam.release import registry, registryclient
from cofferdam.release.containerdisk import QEMU, publish_container_disk
from cofferdam.release.keys import new_signing_key
from cofferdam.release.registry import fetch_release, publish_release
from cofferdam.release.registryclient import Client, RegistryError, digest_of
from cofferdam.release.verify import NotVerifiedError
from servers.dockerregistry import docker_registry, registry_tree
from vmtest.releases import COMMIT, make_home, make_release

# They need Debian's package and a registry, so they are not among the tests that need nothing.
pytestmark = pytest.mark.vm

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registry_tree(tmp_path_factory.mktemp("tree"), Progress())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("releases")
    make_home(path)
    kept = path / "kept"
    kept.mkdir()
    (kept / "demo_2%3A1.0+b1~x_all.deb").write_bytes(b"deb")
    make_release(path, path / "whole", disk=bytes(3 << 20), formats=("qcow2", "direct"), packages=kept, notes="# Notes\n")
    make_release(path, path / "other", disk=b"another disk", formats=("qcow2", "direct"))
    return path


@pytest.fixture
def allowed(home: Path) -> Path:
    return home / "keys/allowed_signers"


@pytest.fixture(scope="module")
def server(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    directory = tmp_path_factory.mktemp("registry")
    with docker_registry(tree, directory) as host:
        yield host, directory / "data"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def asked(reference: Any, wanted: str = "") -> Any:
    """The manifest that a reference names."""
    with closing(Client(reference)) as client:
        return json.loads(client.manifest(wanted or reference.wanted))


def stored(data: Path, digest: str) -> Path:
    """The registry's file of a blob."""
    name = digest.removeprefix("sha256:")
    return data / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


def test_a_release_comes_back_as_it_was(server, home, allowed, tmp_path):
    host, _ = server
    done = publish_release(home / "whole", f"{host}/company/cofferdam", QUIET, key=allowed)
    assert (done.reference.tag, done.already) == ("1.2.0", False)
    found = asked(done.reference)
    assert digest_of(json.dumps(found, indent=1).encode()) == done.digest
    assert found["artifactType"] == "application/vnd.cofferdam.release.v1"
    assert found["annotations"]["org.opencontainers.image.version"] == "1.2.0"
    assert found["annotations"]["org.opencontainers.image.revision"] == COMMIT
    titles = [each["annotations"]["org.opencontainers.image.title"] for each in found["layers"]]
    assert {"SHA256SUMS", "SHA256SUMS.sig", "NOTES.md", "packages/demo_2%3A1.0+b1~x_all.deb"} < set(titles)
    for number, place in enumerate((done.reference, done.pinned)):
        got = fetch_release(str(place), tmp_path / f"got-{number}", QUIET, key=allowed)
        assert contents(got) == contents(home / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["got-0", "got-1"]


def test_publishing_again_changes_nothing_and_another_release_is_refused(server, home, allowed):
    place = f"{server[0]}/again:1.2.0"
    first = publish_release(home / "whole", place, QUIET, key=allowed)
    second = publish_release(home / "whole", place, QUIET, key=allowed)
    assert (second.already, second.digest) == (True, first.digest)
    with pytest.raises(UsageError, match="is there already, and is something else"):
        publish_release(home / "other", place, QUIET, key=allowed)
    assert asked(first.reference) == asked(first.pinned)


def test_what_cannot_be_trusted_is_neither_published_nor_put_in_its_place(server, home, allowed, tmp_path):
    bad = Path(shutil.copytree(home / "whole", tmp_path / "bad"))
    (bad / "NOTES.md").write_text("# Other notes\n")
    with pytest.raises(NotVerifiedError, match=r"NOTES\.md is not the file that was released"):
        publish_release(bad, f"{server[0]}/bad", QUIET, key=allowed)
    publish_release(home / "whole", f"{server[0]}/stranger", QUIET, key=allowed)
    new_signing_key(tmp_path / "stranger")
    with pytest.raises(NotVerifiedError, match="signature: it is by a key that is not allowed"):
        fetch_release(f"{server[0]}/stranger:1.2.0", tmp_path / "got", QUIET, key=tmp_path / "stranger/allowed_signers")
    with pytest.raises(RegistryError, match="is not there"):
        fetch_release(f"{server[0]}/stranger:1.3.0", tmp_path / "got", QUIET, key=allowed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "stranger"]


def test_a_blob_that_was_changed_in_the_registry_is_refused(server, home, allowed, tmp_path):
    host, data = server
    done = publish_release(home / "other", f"{host}/changed", QUIET, key=allowed)
    name = "cofferdam-1.2.0-default.qcow2"
    layer = next(
        each for each in asked(done.reference)["layers"] if each["annotations"]["org.opencontainers.image.title"] == name
    )
    file = stored(data, layer["digest"])
    before = file.read_bytes()
    for changed in (before[::-1], before + b"more", before[:-1]):
        file.write_bytes(changed)
        with pytest.raises(RegistryError):
            fetch_release(str(done.reference), tmp_path / "got", QUIET, key=allowed)
    file.write_bytes(before)
    fetch_release(str(done.reference), tmp_path / "got", QUIET, key=allowed)
    assert [path.name for path in tmp_path.iterdir()] == ["got"]


def test_a_manifest_of_another_digest_is_refused(server, home, allowed, tmp_path):
    host, data = server
    done = publish_release(home / "whole", f"{host}/swapped", QUIET, key=allowed)
    file = stored(data, done.digest)
    file.write_bytes(file.read_bytes().replace(b"NOTES.md", b"NOTEZ.md"))
    with pytest.raises(RegistryError):
        fetch_release(str(done.pinned), tmp_path / "got", QUIET, key=allowed)


def test_a_container_disk_holds_the_disk_for_kubevirts_qemu(server, home, allowed, tmp_path):
    host, data = server
    done = publish_container_disk(home / "whole", f"{host}/disk", QUIET, key=allowed)
    found = asked(done.reference)
    (layer,) = found["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
    config = json.loads(stored(data, found["config"]["digest"]).read_bytes())
    assert (config["os"], config["architecture"], config["rootfs"]["diff_ids"]) == ("linux", "amd64", [layer["digest"]])
    with tarfile.open(fileobj=io.BytesIO(stored(data, layer["digest"]).read_bytes())) as tar:
        members = {each.name: (each.uid, each.gid, each.mode, each.isdir()) for each in tar}
        assert members == {
            "disk": (QEMU, QEMU, 0o555, True),
            "disk/cofferdam-1.2.0-default.qcow2": (QEMU, QEMU, 0o444, False),
        }
        file = tar.extractfile("disk/cofferdam-1.2.0-default.qcow2")
        assert file is not None and file.read() == bytes(3 << 20)
    with pytest.raises(RegistryError, match="is no release folder"):
        fetch_release(str(done.reference), tmp_path / "got", QUIET, key=allowed)
    with pytest.raises(UsageError, match="has no raw of profile"):
        publish_container_disk(home / "whole", f"{host}/disk", QUIET, kind="raw", key=allowed)


def test_a_compressed_disk_is_unpacked_for_kubevirt(server, home, allowed, tmp_path):
    host, data = server
    plain = b"raw disk" * 5000
    packed = zstandard.ZstdCompressor().compress(plain)
    release = make_release(home, tmp_path / "raw", disk=packed, version="1.3.0", formats=("raw",))
    done = publish_container_disk(release, f"{host}/raw-disk", QUIET, key=allowed)
    (layer,) = asked(done.reference)["layers"]
    with tarfile.open(fileobj=io.BytesIO(stored(data, layer["digest"]).read_bytes())) as tar:
        file = tar.extractfile("disk/cofferdam-1.3.0-default.raw")
        assert file is not None and file.read() == plain


def test_what_there_is_no_room_for_is_not_begun(server, home, allowed, tmp_path, monkeypatch):
    done = publish_release(home / "other", f"{server[0]}/large", QUIET, key=allowed)
    monkeypatch.setattr(registry.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(HostError, match="has room for 0"):
        fetch_release(str(done.reference), tmp_path / "got", QUIET, key=allowed)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes what `docker login` would."""
    directory = tmp_path / "docker"
    directory.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))

    def write(host: str, words: str) -> None:
        auth = base64.b64encode(words.encode()).decode()
        (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))

    return write


def test_a_registry_with_a_login(tree, home, allowed, login, tmp_path):
    hashed = bcrypt.hashpw(b"opensesame", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"ada:{hashed}\n")
    auth = f"auth: {{htpasswd: {{realm: test, path: {tmp_path / 'htpasswd'}}}}}"
    with docker_registry(tree, tmp_path, auth=auth) as host:
        for words in ("", "ada:wrong"):
            if words:
                login(host, words)
            with pytest.raises(RegistryError, match="does not let you") as raised:
                publish_release(home / "whole", f"{host}/closed", QUIET, key=allowed)
            assert raised.value.hint == f"Run `docker login {host}`."
        login(host, "ada:opensesame")
        done = publish_release(home / "whole", f"{host}/closed", QUIET, key=allowed)
        fetch_release(str(done.reference), tmp_path / "got", QUIET, key=allowed)
        login("other.example.com", "ada:opensesame")
        with pytest.raises(RegistryError, match="does not let you"):
            fetch_release(str(done.reference), tmp_path / "again", QUIET, key=allowed)


def test_away_from_the_loopback_only_encrypted_and_only_with_a_known_authority(tree, home, allowed, tmp_path, monkeypatch):
    made = ensure_credentials(tmp_path / "keys", "registry")
    for name in ("tls-cert", "tls-key"):
        text = next(path for path in made.smbios if path.name == name).read_text()
        (tmp_path / name).write_bytes(base64.b64decode(text.partition("=")[2]))
    tls = f", tls: {{certificate: {tmp_path / 'tls-cert'}, key: {tmp_path / 'tls-key'}}}"
    for module in (references, registryclient):
        monkeypatch.setattr(module, "is_loopback", lambda _: False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with docker_registry(tree, tmp_path, tls=tls) as host:
        with pytest.raises(RegistryError, match="certificate verify failed"):
            publish_release(home / "whole", f"{host}/tls", QUIET, key=allowed)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made.client / "ca.pem"))
        publish_release(home / "whole", f"{host}/tls", QUIET, key=allowed)
    (tmp_path / "plain").mkdir()
    with docker_registry(tree, tmp_path / "plain") as host, pytest.raises(RegistryError, match="cannot be reached"):
        publish_release(home / "whole", f"{host}/plain", QUIET, key=allowed)
