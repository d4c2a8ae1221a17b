"""The host tells the format of a data disk by its superblock, and writes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from cofferdam.machine.dataformat import NewerDataError, disk_format, refuse_newer

MKE2FS = shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@pytest.mark.skipif(MKE2FS is None, reason="needs e2fsprogs on this machine")
@pytest.mark.parametrize(("label", "found"), [("cofferdam-data", 1), ("cofferdam-data2", 2), ("photos", None)])
def test_a_real_disk_says_its_format(tmp_path, label, found):
    disk = tmp_path / "data.raw"
    with disk.open("wb") as sink:
        sink.truncate(8 * 2**20)
    subprocess.run([MKE2FS, "-q", "-F", "-t", "ext4", "-L", label, disk], check=True, timeout=60)
    before = disk.read_bytes()
    assert disk_format(disk) == found
    refuse_newer(disk, 2, "1.0")
    if found == 2:
        with pytest.raises(NewerDataError, match=r"data\.raw has format 2; the image 1\.0 knows formats up to 1") as error:
            refuse_newer(disk, 1, "1.0")
        assert error.value.hint
    assert disk.read_bytes() == before


def test_no_disk_or_a_blank_one_has_none(tmp_path):
    disk = tmp_path / "data.raw"
    assert disk_format(disk) is None
    for data in (b"", b"\0" * 1100, b"\0" * 4096, b"\xff" * 4096):
        disk.write_bytes(data)
        assert disk_format(disk) is None
    refuse_newer(disk, 1, "1.0")
