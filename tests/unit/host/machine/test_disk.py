"""The data disk: made once, grown on request, never shrunk, never touched otherwise."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine.disk import DEFAULT_SIZE, ensure_data_disk, human, used_bytes

MIB = 2**20


def test_it_is_made_sparse_and_private(tmp_path):
    path = tmp_path / "data.raw"
    assert ensure_data_disk(path, None) == "created"
    assert path.stat().st_size == DEFAULT_SIZE
    assert used_bytes(path) < MIB
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_wanted_size_is_rounded_up_to_whole_sectors(tmp_path):
    path = tmp_path / "data.raw"
    ensure_data_disk(path, 64 * MIB + 1)
    assert path.stat().st_size == 64 * MIB + 4096


def test_it_is_kept_with_its_content(tmp_path):
    path = tmp_path / "data.raw"
    ensure_data_disk(path, 64 * MIB)
    with path.open("r+b") as disk:
        disk.write(b"data")
    before = path.stat().st_mtime_ns
    for size in (None, 64 * MIB):
        assert ensure_data_disk(path, size) == "kept"
    assert path.stat().st_mtime_ns == before
    assert ensure_data_disk(path, 128 * MIB) == "grown"
    assert path.stat().st_size == 128 * MIB
    with path.open("rb") as disk:
        assert disk.read(5) == b"data\0"


def test_it_does_not_shrink(tmp_path):
    path = tmp_path / "data.raw"
    ensure_data_disk(path, 128 * MIB)
    with pytest.raises(UsageError, match=r"has 128M; it cannot shrink to 64M") as error:
        ensure_data_disk(path, 64 * MIB)
    assert str(path) in error.value.hint
    assert path.stat().st_size == 128 * MIB


@pytest.mark.parametrize("size", [None, 64 * MIB])
def test_an_empty_file_of_a_killed_command_is_no_disk(tmp_path, size):
    path = tmp_path / "data.raw"
    path.touch()
    assert ensure_data_disk(path, size) == "created"
    assert path.stat().st_size == (size or DEFAULT_SIZE)


@pytest.mark.parametrize("there", [True, False])
def test_a_full_host_is_an_error_and_loses_nothing(tmp_path, monkeypatch, there):
    path = tmp_path / "data.raw"
    if there:
        ensure_data_disk(path, 64 * MIB)

    def full(handle: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(InstanceError, match="No space left") as error:
        ensure_data_disk(path, 128 * MIB)
    assert "COFFERDAM_STATE_HOME" in error.value.hint
    assert path.exists() == there
    assert not there or path.stat().st_size == 64 * MIB


@pytest.mark.parametrize(
    ("size", "text"), [(20 * 2**30, "20G"), (1536 * MIB, "1.5G"), (512 * MIB, "512M"), (2**40, "1T"), (7, "7"), (2048, "2K")]
)
def test_human(size, text):
    assert human(size) == text
