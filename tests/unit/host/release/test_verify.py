"""A release folder is accepted as it was made, and refused after anything was done to it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cofferdam.errors import HostError, UsageError
from cofferdam.release.keys import load_signing_key, new_signing_key
from cofferdam.release.signature import sign
from cofferdam.release.sums import make_sums
from cofferdam.release.verify import _CHECKS, NotVerifiedError, trusted, verify
from cofferdam.tools.packages import RECORD, Contents
from vmtest.releases import package

DISK = "cofferdam-1.2.0-default.raw.zst"
CDX = "cofferdam-1.2.0-default.cdx.json"


def wrong(folder: Path, keys: Path) -> list[str]:
    """Names of the checks that refuse."""
    return [each.name for each in verify(folder, keys / "allowed_signers") if not each.ok]


def test_a_release_is_accepted_as_it_was_made(folder, keys):
    checks = verify(folder, keys / "allowed_signers")
    assert [(each.name, each.ok, each.found) for each in checks if not each.ok] == []
    assert {each.name: each.found for each in checks} == {
        "files": "6 ordinary files",
        "signature": "by cofferdam-release",
        "sums": "6 files are what they were",
        "manifest": "version 1.2.0, 2 artefacts",
        "provenance": f"commit {'a' * 12}, 7 dependencies",
        "sbom": "2 of 1 profiles",
    }
    manifest = trusted(folder, keys / "allowed_signers")
    assert {each.name: each.root_hash for each in manifest.artefacts} == dict.fromkeys(
        (DISK, "cofferdam-1.2.0-default-direct.tar"), "e" * 64
    )


@pytest.mark.parametrize("after", ["signature", "sums", "sbom"])
def test_what_is_changed_between_two_checks_is_not_believed(folder, keys, monkeypatch, after):
    """Somebody puts another manifest, with sums that fit it, into the folder while it is verified."""

    def swapping(name, look):
        def looked(state):
            found = look(state)
            if name == after:
                path = folder / "manifest.json"
                path.write_text(path.read_text().replace("e" * 64, "d" * 64))
                (folder / "SHA256SUMS").write_text(make_sums(folder))
            return found

        return name, looked

    monkeypatch.setattr("cofferdam.release.verify._CHECKS", tuple(swapping(*each) for each in _CHECKS))
    try:
        hashes = {each.root_hash for each in trusted(folder, keys / "allowed_signers").artefacts}
    except NotVerifiedError:
        return
    assert "d" * 64 not in hashes


def test_the_same_inputs_make_the_same_folder(release, folder):
    one, other = folder, release("other")
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()] == []


def test_sha256sum_and_ssh_keygen_agree(folder, keys):
    assert subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    if shutil.which("ssh-keygen"):
        words = ["ssh-keygen", "-Y", "verify", "-f", keys / "allowed_signers", "-I", "cofferdam-release"]
        words += ["-n", "cofferdam-release", "-s", "SHA256SUMS.sig"]
        with open(folder / "SHA256SUMS", "rb") as sums:
            assert subprocess.run(words, cwd=folder, stdin=sums, capture_output=True, check=False).returncode == 0


def test_packages_go_with_a_release(release, keys, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/demo_2%3A1.0+b1~x_all.deb").write_bytes(b"deb")
    (tmp_path / "kept/notes.txt").write_bytes(b"no")
    folder = release("with", packages=tmp_path / "kept")
    assert [path.name for path in (folder / "packages").iterdir()] == ["demo_2%3A1.0+b1~x_all.deb"]
    assert wrong(folder, keys) == []
    (folder / "packages/demo_2%3A1.0+b1~x_all.deb").write_bytes(b"bad")
    assert wrong(folder, keys) == ["sums"]


def test_a_release_is_readable_whatever_the_umask(release, keys, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/demo_1_all.deb").write_bytes(b"deb")
    before = os.umask(0o077)
    try:
        folder = release("closed", packages=tmp_path / "kept")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    assert {name: mode for name, mode in modes.items() if mode != (0o755 if name in ("closed", "packages") else 0o644)} == {}


def test_a_release_that_there_is_no_room_for_is_told_and_leaves_nothing(release, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cofferdam.release.folder.shutil.copyfile", full)
    with pytest.raises(HostError, match="No space left"):
        release("full")
    assert [path.name for path in tmp_path.iterdir()] == []
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot be made"):
        release("file/full")


def flip(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


def resum(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text(make_sums(folder))


def edit(folder: Path, name: str, change) -> None:
    document = json.loads((folder / name).read_text())
    change(document)
    (folder / name).write_text(json.dumps(document))


def swap(folder: Path) -> None:
    one, other = folder / DISK, folder / "cofferdam-1.2.0-default-direct.tar"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def sums_line(folder: Path, line: str) -> None:
    with open(folder / "SHA256SUMS", "a") as sums:
        sums.write(line + "\n")


def link(folder: Path) -> None:
    (folder / DISK).rename(folder.parent / "elsewhere")
    (folder / DISK).symlink_to(folder.parent / "elsewhere")


def link_directory(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "packages").symlink_to(folder.parent / "elsewhere")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


# What was done to the folder, and the checks that refuse it then.
TAMPERINGS = {
    "flipped byte": (lambda f: flip(f, DISK), {"sums"}),
    "flipped byte of the manifest": (lambda f: flip(f, "manifest.json"), {"sums"}),
    "flipped byte of the provenance": (lambda f: flip(f, "provenance.intoto.json"), {"sums"}),
    "flipped byte of a bill of materials": (lambda f: flip(f, CDX), {"sums"}),
    "flipped byte of the signature": (lambda f: flip(f, "SHA256SUMS.sig"), {"signature"}),
    "added file": (lambda f: (f / "extra").write_bytes(b""), {"sums"}),
    "added file in a directory": (lambda f: ((f / "sub").mkdir(), (f / "sub/x").touch()), {"files", "sums"}),
    "hidden file": (lambda f: (f / ".hidden").write_bytes(b""), {"sums"}),
    "removed file": (lambda f: (f / DISK).unlink(), {"sums", "manifest"}),
    "removed signature": (lambda f: (f / "SHA256SUMS.sig").unlink(), {"signature"}),
    "removed sums": (lambda f: (f / "SHA256SUMS").unlink(), {"signature", "sums", "manifest", "provenance"}),
    "swapped files": (swap, {"sums"}),
    "cut off": (lambda f: (f / DISK).write_bytes(b""), {"sums", "manifest"}),
    "symlink": (link, {"files", "sums"}),
    "symlink to a directory": (link_directory, {"files", "sums"}),
    "symlinked sums": (
        lambda f: ((f / "SHA256SUMS").rename(f.parent / "s"), (f / "SHA256SUMS").symlink_to(f.parent / "s")),
        {"files", "signature", "sums", "manifest", "provenance"},
    ),
    "fifo": (fifo, {"files", "sums"}),
    "sums made again": (lambda f: (flip(f, DISK), resum(f)), {"signature", "manifest", "provenance"}),
    "traversal in the sums": (lambda f: sums_line(f, f"{'0' * 64}  ../keys/allowed_signers"), {"signature", "sums"}),
    "absolute path in the sums": (lambda f: sums_line(f, f"{'0' * 64}  /etc/passwd"), {"signature", "sums"}),
    "traversal below packages": (lambda f: sums_line(f, f"{'0' * 64}  packages/../../x"), {"signature", "sums"}),
    "a line of another kind": (lambda f: sums_line(f, "hello"), {"signature", "sums"}),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_folder_that_was_changed_is_refused(folder, keys, tampering):
    change, refusing = TAMPERINGS[tampering]
    change(folder)
    found = set(wrong(folder, keys))
    assert refusing <= found
    assert {"signature", "sums", "files"} & found
    with pytest.raises(NotVerifiedError, match="cannot be trusted"):
        trusted(folder, keys / "allowed_signers")


@pytest.mark.parametrize("name", [b"\x1b]0;owned\x07", b"a\nfiles: ok", b"\xff\xfe", "\u202ereversed".encode()])
def test_names_of_files_do_not_speak_to_the_terminal(folder, keys, name):
    os.mkfifo(os.path.join(os.fsencode(folder), name))
    found = [each for each in verify(folder, keys / "allowed_signers") if not each.ok]
    assert {each.name for each in found} == {"files", "sums"}
    assert all(each.found.isprintable() for each in found)


def test_an_old_signature_is_refused(release, folder, keys):
    new = release("new", disk=b"other disk")
    shutil.copy(folder / "SHA256SUMS.sig", new / "SHA256SUMS.sig")
    assert wrong(new, keys) == ["signature"]


def test_another_key_is_refused(folder, keys, tmp_path):
    new_signing_key(tmp_path / "others")
    assert wrong(folder, tmp_path / "others") == ["signature"]
    sums = (folder / "SHA256SUMS").read_bytes()
    (folder / "SHA256SUMS.sig").write_text(sign(sums, load_signing_key(tmp_path / "others/release.key")))
    assert wrong(folder, keys) == ["signature"]


def test_without_a_key_nothing_is_trusted(folder, tmp_path):
    assert [each.name for each in verify(folder, tmp_path / "nowhere") if not each.ok] == ["signature"]


# A change by somebody who has the key: what the documents say of each other has to fit all the same.
CONTRADICTIONS = {
    "size": (lambda f: edit(f, "manifest.json", lambda d: d["artefacts"][0].update(size=5)), "manifest"),
    "name": (lambda f: edit(f, "manifest.json", lambda d: d["artefacts"][0].update(profile="debug")), "manifest"),
    "checksum": (lambda f: edit(f, "manifest.json", lambda d: d["artefacts"][0].update(sha256="0" * 64)), "manifest"),
    "unknown key": (lambda f: edit(f, "manifest.json", lambda d: d.update(more=1)), "manifest"),
    "traversal": (lambda f: edit(f, "manifest.json", lambda d: d["artefacts"][0].update(name="../x")), "manifest"),
    "not in the manifest": (lambda f: (f / "notes.txt").write_text("hello"), "manifest"),
    "commit": (lambda f: edit(f, "manifest.json", lambda d: d.update(commit="b" * 40)), "provenance"),
    "subject": (lambda f: edit(f, "provenance.intoto.json", lambda d: d["subject"].pop()), "provenance"),
    "subject twice": (lambda f: edit(f, "provenance.intoto.json", lambda d: d["subject"].append(d["subject"][0])), "provenance"),
    "type": (lambda f: edit(f, "provenance.intoto.json", lambda d: d.update(predicateType="x")), "provenance"),
    "not CycloneDX": (lambda f: edit(f, CDX, lambda d: d.update(specVersion="1.6", components=3)), "sbom"),
    "not SPDX": (lambda f: edit(f, CDX.replace("cdx", "spdx"), lambda d: d["packages"][0].pop("SPDXID")), "sbom"),
    "no bill": (lambda f: edit(f, "manifest.json", lambda d: d["sboms"].pop()), "sbom"),
}


@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_documents_that_contradict_each_other_are_refused(folder, keys, contradiction):
    change, refusing = CONTRADICTIONS[contradiction]
    change(folder)
    resum(folder)
    sums = (folder / "SHA256SUMS").read_bytes()
    (folder / "SHA256SUMS.sig").write_text(sign(sums, load_signing_key(keys / "release.key")))
    found = wrong(folder, keys)
    assert refusing in found and not {"signature", "sums", "files"} & set(found)


def test_a_folder_that_is_none_is_refused(tmp_path, keys):
    with pytest.raises(NotVerifiedError, match="not a directory"):
        verify(tmp_path / "nowhere", keys / "allowed_signers")


def test_a_release_is_never_replaced_and_never_half_made(release, folder, tmp_path):
    with pytest.raises(UsageError, match="is there already"):
        release("folder")
    with pytest.raises(UsageError, match="cannot be a release"):
        release("other", version="1.0/../2")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert not (tmp_path / "other").exists() and folder.is_dir()


def test_the_provenance_names_the_packages_that_made_a_disk(home, release):
    tools = Contents(packages=[package("mtools")], archives=[])
    (home / RECORD).write_text(tools.model_dump_json())
    try:
        folder = release("disk", formats=("raw",))
    finally:
        (home / RECORD).unlink()
    definition = json.loads((folder / "provenance.intoto.json").read_text())["predicate"]["buildDefinition"]
    assert "mtools" in {each["name"] for each in definition["resolvedDependencies"]}


def test_the_provenance_names_what_it_was_made_from(folder):
    statement = json.loads((folder / "provenance.intoto.json").read_text())
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    definition = statement["predicate"]["buildDefinition"]
    sources = {each["name"]: each for each in definition["resolvedDependencies"]}
    assert sources["cofferdam"]["digest"] == {"gitCommit": "a" * 40}
    assert set(sources) == {"cofferdam", "crun", "libcrun", "odd", "silent", "gcc", "linux-source-7.3"}
    assert sources["crun"]["uri"] == "pkg:deb/debian/crun@1.21-1%2Bb2?arch=amd64"
    assert definition["externalParameters"]["version"] == "1.2.0"
    assert len(statement["subject"]) == 5
