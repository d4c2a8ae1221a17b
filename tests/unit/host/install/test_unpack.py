"""An archive becomes the files of an image, and whatever else is in one stays outside."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from cofferdam.cache import file_digest
from cofferdam.image.model import open_image
from cofferdam.install.unpack import ArchiveError, unpack
from unit.host.install.conftest import archive, members


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "there/target"
    path.mkdir(parents=True)
    return path


def unpacked(path: Path, target: Path, **changed: object) -> dict[str, str]:
    values = {"size": path.stat().st_size, "sha256": file_digest(path), **changed}
    found, files = unpack(path, target, **values)
    assert found == file_digest(path)
    return files


def test_an_archive_becomes_an_image(home, target):
    files = unpacked(archive(home / "a.tar", members(home / "image")), target)
    assert files == {path.name: file_digest(path) for path in (home / "image").iterdir()}
    assert {path.name for path in target.iterdir()} == set(files)
    assert {path.stat().st_mode & 0o777 for path in target.iterdir()} == {0o600}
    assert open_image(target).profile == "default"


def test_names_may_begin_with_a_dot_as_tar_itself_writes_them(home, target):
    entries = [tarfile.TarInfo("./"), *((f"./{name}", data) for name, data in members(home / "image"))]
    entries[0].type = tarfile.DIRTYPE
    assert "vmlinuz" in unpacked(archive(home / "a.tar", entries), target)


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, link, 0o777
    return entry


BAD = {
    "parent": [("../outside", b"x")],
    "absolute": [("/tmp/outside", b"x")],
    "inside a directory": [("etc/passwd", b"x")],
    "parent behind a known name": [("vmlinuz/../../outside", b"x")],
    "unknown name": [("run-me", b"x")],
    "a private key": [("ssh_key", b"x")],
    "the note of the store": [("origin.json", b"{}")],
    "link": [special("vmlinuz", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [special("vmlinuz", tarfile.LNKTYPE, "../outside")],
    "device": [special("vmlinuz", tarfile.CHRTYPE)],
    "pipe": [special("vmlinuz", tarfile.FIFOTYPE)],
    "directory of a known name": [special("vmlinuz", tarfile.DIRTYPE)],
    "twice": [("vmlinuz", b"one"), ("vmlinuz", b"two")],
    "twice in two spellings": [("vmlinuz", b"one"), ("./vmlinuz", b"two")],
    "a link first, then a file through it": [special("vmlinuz", tarfile.SYMTYPE, "../outside"), ("vmlinuz", b"x")],
    "escape sequences": [("\x1b[2Jvmlinuz", b"x")],
}


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused_and_nothing_lies_outside(home, target, case):
    path = archive(home / "a.tar", [*BAD[case], *members(home / "image")])
    with pytest.raises(ArchiveError) as error:
        unpacked(path, target)
    assert error.value.hint
    assert str(error.value).isprintable()
    assert not (home / "outside").exists() and not (target.parent / "outside").exists() and not Path("/tmp/outside").exists()
    assert [name.name for name in target.parent.iterdir()] == ["target"]
    assert all(each.is_file() and not each.is_symlink() for each in target.iterdir())


def test_a_sparse_file_is_refused(home, target):
    """A few bytes of archive that would become a file of a terabyte."""
    entry = tarfile.TarInfo("root.erofs")
    entry.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
    entry.size = 1
    with tarfile.open(home / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(ArchiveError):
        unpacked(home / "a.tar", target)
    assert sum(path.stat().st_blocks for path in target.iterdir()) < 100


def test_a_file_that_is_said_to_be_larger_than_its_archive_is_refused(home, target):
    path = archive(home / "a.tar", members(home / "image"))
    data = bytearray(path.read_bytes())
    data[124:136] = b"77777777777\0"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="too large"):
        unpacked(path, target)


@pytest.mark.parametrize("garbage", [b"", b"\0" * 10240, b"no tar at all" * 1000, os.urandom(20000)])
def test_garbage_is_no_archive(tmp_path, target, garbage):
    path = tmp_path / "a.tar"
    path.write_bytes(garbage)
    with pytest.raises(ArchiveError):
        unpacked(path, target)


def test_a_compressed_archive_is_none(home, target):
    path = archive(home / "a.tar", members(home / "image"))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ArchiveError, match="is not an archive of an image"):
        unpacked(path, target)


def test_it_has_to_be_the_file_that_was_released(home, target):
    path = archive(home / "a.tar", members(home / "image"))
    with pytest.raises(ArchiveError, match="is not the file that was released"):
        unpacked(path, target, sha256="0" * 64)


@pytest.mark.parametrize("change", [-1, 1, -4096])
def test_it_has_to_have_the_size_that_was_released(home, target, change):
    path = archive(home / "a.tar", members(home / "image"))
    with pytest.raises(ArchiveError):
        unpacked(path, target, size=path.stat().st_size + change, sha256=None)


def test_a_cut_archive_is_refused(home, target):
    path = archive(home / "a.tar", members(home / "image"))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ArchiveError):
        unpacked(path, target)


@pytest.mark.parametrize(("name", "match"), [("root.erofs", "is not what its manifest.json says"), ("manifest.json", "holds no")])
def test_its_own_manifest_has_to_agree(home, target, name, match):
    entries = [each for each in members(home / "image") if each[0] != name]
    with pytest.raises(ArchiveError, match=match):
        unpacked(archive(home / "a.tar", entries), target)


def test_a_manifest_of_another_version_is_refused(home, target):
    entries = [(name, b'{"format": 9}' if name == "manifest.json" else data) for name, data in members(home / "image")]
    with pytest.raises(ArchiveError, match="is not one of this version"):
        unpacked(archive(home / "a.tar", entries), target)
