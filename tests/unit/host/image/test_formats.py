"""Artefacts without tools: which formats there are, what a direct one holds, and what is taken out of a VHDX."""

from __future__ import annotations

import json
import os
import stat
import struct
import tarfile
import uuid
from dataclasses import replace

import pytest

from cofferdam.cache import only_cached
from cofferdam.errors import BuildError, UsageError
from cofferdam.image.formats import FORMATS, artefact_file, chosen_signer, make_artefact, require_format
from cofferdam.image.model import Image, require_kernel
from cofferdam.image.verity import Verity
from cofferdam.image.vhdx import crc32c, settle
from cofferdam.progress import Progress

FACTS = dict.fromkeys(("version", "config_sha256", "source_package", "source_version", "source_suite", "source_sha256"), "x")
MANIFEST = {
    "profile": "debug",
    "description": "",
    "isolation": "kernel",
    "ssh": True,
    "cmdline": [],
    "kernel": FACTS,
    "packages": [],
}
MANIFEST |= {"root": {"suite": "trixie", "compression": "lz4hc", "archives": []}}
SHA256 = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"  # of `key`
QUIET = Progress(quiet=True)


@pytest.fixture
def image(tmp_path, monkeypatch) -> Image:
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "image"
    directory.mkdir()
    for name in ("vmlinuz", "root.erofs", "ssh_key", "ssh_host_key.pub"):
        (directory / name).write_text("key")
    files = {name: {"sha256": SHA256, "size": 3} for name in ("vmlinuz", "root.erofs")}
    (directory / "manifest.json").write_text(json.dumps({**MANIFEST, "files": files}))
    return Image(directory, "debug", [], directory / "ssh_key", directory / "ssh_host_key.pub")


def test_there_are_four_formats_and_each_has_a_name_of_its_own():
    assert FORMATS == ("direct", "raw", "qcow2", "vhdx")
    assert len({artefact_file("default", each) for each in FORMATS}) == len(FORMATS)
    with pytest.raises(UsageError, match="vmdk"):
        require_format("vmdk")


def test_a_direct_artefact_is_the_image_without_its_keys_and_the_same_each_time(image, tmp_path, monkeypatch):
    first = make_artefact(image, "direct", QUIET)
    assert (first.format, first.root_hash) == ("direct", None)
    with tarfile.open(first.path) as archive:
        members = archive.getmembers()
    assert [each.name for each in members] == ["manifest.json", "root.erofs", "vmlinuz"]
    assert {(each.mode, each.uid, each.gid, each.uname, each.mtime) for each in members} == {(0o644, 0, 0, "root", 0)}
    os.utime(image.root, (5, 5))
    image.kernel.chmod(0o600)
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "other"))
    second = make_artefact(image, "direct", QUIET)
    assert second.path != first.path and second.path.read_bytes() == first.path.read_bytes()


def test_an_artefact_with_a_servers_key_in_its_root_is_its_owners_alone(image):
    path = make_artefact(image, "direct", QUIET).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, "nor could others read it while it was made"
    manifest = json.loads(image.manifest.read_text())
    image.manifest.write_text(json.dumps({**manifest, "profile": "default", "ssh": False}))
    public = make_artefact(replace(image, profile="default", ssh_key=None), "direct", QUIET).path
    assert stat.S_IMODE(public.stat().st_mode) == 0o644


def test_a_direct_artefact_has_the_files_of_today_also_those_that_no_manifest_names(image):
    (image.directory / "packages.json").write_text("of yesterday")
    make_artefact(image, "direct", QUIET)
    (image.directory / "packages.json").write_text("of today")
    with tarfile.open(make_artefact(image, "direct", QUIET).path) as archive:
        found = archive.extractfile("packages.json")
        assert found is not None and found.read() == b"of today"


@pytest.mark.parametrize("format", FORMATS)
def test_a_kernel_that_is_not_the_manifests_is_neither_packed_nor_signed(image, format):
    image.kernel.write_text("kex")
    verified = replace(image, verity=Verity(root_hash="1" * 64, salt="2" * 64, blocks=1))
    with only_cached(), pytest.raises(BuildError, match="verification failed"):
        make_artefact(verified, format, QUIET)


def test_an_image_without_a_verified_root_makes_no_disk(image):
    with pytest.raises(BuildError, match="no verified root") as caught:
        make_artefact(image, "raw", QUIET)
    assert "inv build-vm --profile debug --format raw" in caught.value.hint


def test_a_kernel_that_is_not_the_manifests_is_not_booted(image):
    assert require_kernel(image) is image
    image.kernel.write_text("kex")
    with pytest.raises(BuildError, match=r"verification failed: .*vmlinuz is not the kernel of its manifest"):
        require_kernel(image)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vmdk", "", ""), "no such format"),
        (("", "/keys", ""), "nothing is signed"),
        (("direct", "/keys", ""), "nothing is signed"),
        (("raw", "", "/cert.pem"), "without a key"),
    ],
)
def test_options_that_sign_nothing_are_refused(words, said):
    with pytest.raises(UsageError, match=said):
        chosen_signer(*words)


def test_no_key_is_no_signer():
    assert chosen_signer("", "", "") is None
    assert chosen_signer("raw", "", "") is None


# A VHDX's parts that `settle` touches, at the places where the specification wants them.
METADATA, DISK = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e"), uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
KIB, MIB = 2**10, 2**20


def vhdx(path, seed):
    """A file as qemu-img leaves it: identifiers and numbers of today, and words in the journal."""
    data = bytearray(3 * MIB)
    data[:8] = b"vhdxfile"
    for place in (64 * KIB, 128 * KIB):
        data[place : place + 4] = b"head"
        data[place + 8 : place + 64] = bytes([seed]) * 56
        struct.pack_into("<IQ", data, place + 68, MIB, MIB)
    struct.pack_into("<4sIII16sQII", data, 192 * KIB, b"regi", 0, 1, 0, METADATA.bytes_le, 2 * MIB, MIB, 1)
    struct.pack_into("<8sHH20s16sIIII", data, 2 * MIB, b"metadata", 0, 1, b"", DISK.bytes_le, 64 * KIB, 16, 0, 0)
    data[2 * MIB + 64 * KIB : 2 * MIB + 64 * KIB + 16] = bytes([seed]) * 16
    data[MIB : MIB + 4] = b"loge"
    path.write_bytes(data)
    return path


def test_two_conversions_are_the_same_once_settled(tmp_path):
    identity = uuid.UUID(int=7)
    for seed in (1, 2):
        settle(vhdx(tmp_path / str(seed), seed), identity)
    data = (tmp_path / "1").read_bytes()
    assert data == (tmp_path / "2").read_bytes()
    assert data[MIB : 2 * MIB] == bytes(MIB), "the journal is empty"
    sequences = []
    for place in (64 * KIB, 128 * KIB):
        header = bytearray(data[place : place + 4 * KIB])
        (checksum, sequence) = struct.unpack_from("<IQ", header, 4)
        header[4:8] = bytes(4)
        assert crc32c(header) == checksum
        assert header[48:64] == bytes(16), "there is no journal to replay"
        sequences.append(sequence)
    assert sequences == [1, 2], "one of the headers is the current one"
    settle(vhdx(tmp_path / "3", 1), uuid.UUID(int=8))
    assert (tmp_path / "3").read_bytes() != data, "another disk has other identifiers"


def test_what_is_no_vhdx_is_left_alone(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(16))
    with pytest.raises(BuildError, match="not a VHDX"):
        settle(path, uuid.UUID(int=7))
    assert path.read_bytes() == bytes(16)


@pytest.mark.parametrize(
    ("place", "data"),
    [
        (192 * KIB + 16, bytes(16)),
        (192 * KIB, b"none"),
        (2 * MIB + 32, bytes(16)),
        (2 * MIB, b"none"),
    ],
    ids=["no such region", "no regions", "no such item", "no metadata"],
)
def test_a_vhdx_without_its_tables_is_an_error_that_says_so(tmp_path, place, data):
    path = vhdx(tmp_path / "disk.vhdx", 1)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)
    before = path.read_bytes()
    with pytest.raises(BuildError, match=r"disk\.vhdx is not a whole VHDX"):
        settle(path, uuid.UUID(int=7))
    assert path.read_bytes() == before


@pytest.mark.parametrize("size", [64 * KIB + 80, 192 * KIB + 8, 2 * MIB + 8])
def test_half_a_vhdx_is_an_error_that_says_so(tmp_path, size):
    path = vhdx(tmp_path / "disk.vhdx", 1)
    os.truncate(path, size)
    with pytest.raises(BuildError, match=r"disk\.vhdx is not a whole VHDX"):
        settle(path, uuid.UUID(int=7))
    assert path.stat().st_size == size


def test_the_checksum_is_crc_32c():
    assert crc32c(b"123456789") == 0xE3069283
