"""What is done with a data disk, by what is on it: real images made by mke2fs, no mount."""

import os
import shutil
import subprocess

import pytest

from cofferdam_guest.agent import datadisk
from cofferdam_guest.agent.datadisk import LABEL, MAKING, DiskError, is_blank, parse_superblock, prepare
from cofferdam_guest.config import dataformat

MIB = 2**20
MKE2FS = shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
needs_mke2fs = pytest.mark.skipif(MKE2FS is None, reason="needs e2fsprogs on this machine")


@pytest.fixture(autouse=True)
def unclean(tmp_path, monkeypatch):
    """The note of a disk whose free space is to be given back."""
    path = tmp_path / "unclean"
    monkeypatch.setattr(datadisk, "UNCLEAN", str(path))
    return path


@pytest.fixture
def calls(monkeypatch):
    """Programs that would have been run."""
    made = []
    monkeypatch.setattr(datadisk, "call", lambda *argv, good=(0,): made.append(argv))
    return made


def image(path, size, *, label=LABEL, format=True):
    with open(path, "wb") as sink:
        sink.truncate(size)
    if format:
        subprocess.run([MKE2FS, "-q", "-F", "-t", "ext4", "-L", label, path], check=True, timeout=60)
    return str(path)


def patch(path, offset, data):
    with open(path, "r+b") as disk:
        disk.seek(offset)
        disk.write(data)


@pytest.fixture
def draft(tmp_path, monkeypatch):
    """Where a file system is made before it is copied."""
    path = tmp_path / "draft"
    monkeypatch.setattr(datadisk, "DRAFT", str(path))
    return path


def checked(disk):
    """Whether a complete file system with our label is on the disk; e2fsck looks at all of it."""
    with open(disk, "rb") as source:
        found = parse_superblock(source.read(4096))
    looked = subprocess.run([shutil.which("e2fsck", path="/usr/sbin:/sbin"), "-fn", disk], capture_output=True, timeout=60)
    return found is not None and found.label == LABEL and found.clean and looked.returncode == 0


@needs_mke2fs
@pytest.mark.parametrize("size", [3 * MIB, 64 * MIB, 2048 * MIB])
def test_a_blank_disk_is_formatted(tmp_path, draft, size):
    disk = image(tmp_path / "disk", size, format=False)
    assert prepare(disk) is False
    assert checked(disk)
    assert os.stat(disk).st_size == size
    assert not draft.exists()


@needs_mke2fs
def test_a_machine_that_is_killed_while_it_formats_does_it_again(tmp_path, draft, monkeypatch):
    """Ended after each single write: the next boot takes the disk for what it is."""
    write, left = os.pwrite, [0]

    def cut(descriptor, data, offset):
        if left[0] == 0:
            raise OSError(5, "killed")
        left[0] -= 1
        return write(descriptor, data, offset)

    monkeypatch.setattr(datadisk.os, "pwrite", cut)
    # Nothing is lost here but what was never written, and the files are many.
    monkeypatch.setattr(datadisk.os, "fsync", lambda _: None)
    labels = []
    for writes in range(1000):
        disk = image(tmp_path / f"disk{writes}", 32 * MIB, format=False)
        left[0] = writes
        try:
            prepare(disk)
            break
        except DiskError:
            with open(disk, "rb") as source:
                found = parse_superblock(source.read(4096))
            labels.append(found and found.label)
        left[0] = 1000
        assert prepare(disk) is False
        assert checked(disk)
    assert set(labels) == {None, MAKING}
    assert not draft.exists()


@needs_mke2fs
def test_a_finished_disk_is_not_made_again(tmp_path, draft, calls):
    disk = image(tmp_path / "disk", 64 * MIB, label=MAKING[:-1])
    with pytest.raises(DiskError, match="not touched"):
        prepare(disk)
    assert calls == []


def test_a_disk_whose_file_system_would_fill_the_memory_is_formatted_itself(tmp_path, draft, calls):
    disk = image(tmp_path / "disk", 2**40 + MIB, format=False)
    assert prepare(disk) is False
    ((program, *arguments),) = calls
    assert program.endswith("mke2fs") and arguments[-1] == disk and LABEL in arguments


@pytest.mark.parametrize("offset", [0, 512, 1080, 65536, 4 * MIB - 1])
def test_a_disk_with_anything_on_it_is_never_formatted(tmp_path, calls, offset):
    disk = image(tmp_path / "disk", 64 * MIB, format=False)
    patch(disk, offset, b"x")
    with pytest.raises(DiskError, match="not touched"):
        prepare(disk)
    assert calls == []


@needs_mke2fs
def test_a_foreign_file_system_is_refused(tmp_path, calls):
    with pytest.raises(DiskError, match="labelled `photos`"):
        prepare(image(tmp_path / "disk", 64 * MIB, label="photos"))
    assert calls == []


@needs_mke2fs
def test_a_disk_of_a_newer_format_is_refused_and_named(tmp_path, calls, capsys, monkeypatch):
    disk = image(tmp_path / "disk", 64 * MIB, label=dataformat.label(dataformat.FORMAT + 1))
    with open(disk, "rb") as source:
        before = source.read()
    monkeypatch.setattr(datadisk, "device", lambda: disk)
    assert datadisk.main([]) == 1
    said = f"the data disk has format {dataformat.FORMAT + 1}, and this image knows formats up to {dataformat.FORMAT}"
    assert said in capsys.readouterr().err
    assert calls == []
    with open(disk, "rb") as source:
        assert source.read() == before


@needs_mke2fs
def test_our_clean_disk_is_used_as_it_is(tmp_path, calls, unclean):
    assert prepare(image(tmp_path / "disk", 64 * MIB)) is False
    assert calls == []
    assert not unclean.exists()


@needs_mke2fs
def test_a_larger_disk_is_to_be_grown(tmp_path, calls):
    disk = image(tmp_path / "disk", 64 * MIB)
    os.truncate(disk, 96 * MIB)
    assert prepare(disk) is True
    assert calls == []


@needs_mke2fs
@pytest.mark.parametrize(
    ("offset", "data"), [(1024 + 0x3A, b"\x00\x00"), (1024 + 0x3A, b"\x03\x00")], ids=["not unmounted", "errors"]
)
def test_an_unclean_disk_is_checked_and_its_free_space_given_back_later(tmp_path, calls, unclean, offset, data):
    disk = image(tmp_path / "disk", 64 * MIB)
    patch(disk, offset, data)
    prepare(disk)
    assert [(argv[0].rpartition("/")[2], argv[1]) for argv in calls] == [("e2fsck", "-p")]
    assert unclean.exists()


@needs_mke2fs
def test_a_journal_to_replay_counts_as_unclean(tmp_path):
    disk = image(tmp_path / "disk", 64 * MIB)
    with open(disk, "rb") as source:
        data = bytearray(source.read(4096))
    assert parse_superblock(bytes(data)).clean
    data[1024 + 0x60] |= 0x4
    assert not parse_superblock(bytes(data)).clean


@needs_mke2fs
@pytest.mark.parametrize("size", [8 * MIB, 64 * MIB, 700 * MIB])
def test_the_size_in_the_superblock_is_the_disks(tmp_path, size):
    with open(image(tmp_path / "disk", size), "rb") as source:
        found = parse_superblock(source.read(4096))
    assert (found.label, found.size) == (LABEL, size)


def test_no_disk_says_what_to_do(tmp_path, calls):
    with pytest.raises(DiskError, match="attach one"):
        prepare(str(tmp_path / "none"))


def test_a_failing_repair_is_an_error_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(
        datadisk, "call", lambda *argv, good=(0,): (_ for _ in ()).throw(DiskError("`e2fsck` ended with status 4"))
    )
    with pytest.raises(DiskError, match=r"status 4.*on the host with `e2fsck`"):
        datadisk.check("/dev/none")


def test_a_file_system_without_a_disk_has_nothing_to_give_back(monkeypatch, capsys):
    monkeypatch.setattr(datadisk, "MOUNT_POINT", "/proc")
    assert datadisk.main(["trim"]) == 1
    assert capsys.readouterr().err.startswith("cofferdam: free space of the data disk is not given back: ")


def test_a_program_that_fails_is_an_error():
    with pytest.raises(DiskError, match="status 3"):
        datadisk.call("/bin/sh", "-c", "exit 3")
    datadisk.call("/bin/sh", "-c", "exit 1", good=(0, 1))


@pytest.mark.parametrize("garbage", [b"", b"\0" * 4096, b"\xff" * 4096, b"\0" * 1500])
def test_garbage_is_no_superblock(garbage):
    assert parse_superblock(garbage) is None


def test_a_disk_smaller_than_the_blank_window_can_be_blank(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(b"\0" * 100_000)
    descriptor = os.open(path, os.O_RDONLY)
    assert is_blank(descriptor)
    os.close(descriptor)
