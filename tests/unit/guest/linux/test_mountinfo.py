import os

import pytest

from cofferdam_guest.linux import mountinfo

TEXT = """\
21 1 0:20 / / ro,relatime shared:1 - erofs /dev/vda ro
30 21 254:16 / /var rw,noatime shared:2 - ext4 /dev/vdb rw
31 30 254:16 /lib/docker/volumes/v/_data /mnt/with\\040space rw - ext4 /dev/vdb rw
32 30 0:55 / /var/lib/docker/volumes/t/_data rw shared:9 master:3 propagate_from:2 - tmpfs none rw
"""


def test_parse_reads_root_point_and_type_with_and_without_optional_fields():
    mounts = mountinfo.parse(TEXT)
    assert set(mounts) == {21, 30, 31, 32}
    assert (mounts[31].device, mounts[31].root, mounts[31].point) == ("254:16", "/lib/docker/volumes/v/_data", "/mnt/with space")
    assert mounts[32].fstype == "tmpfs"


def origin_of(path):
    fd = os.open(path, os.O_PATH)
    try:
        return mountinfo.origin(fd, mountinfo.read())
    finally:
        os.close(fd)


def test_origin_follows_links_to_the_same_identity(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    direct, linked = origin_of(tmp_path / "real"), origin_of(tmp_path / "link")
    assert (direct.mount.device, direct.path) == (linked.mount.device, linked.path)
    assert direct.path.endswith("/real")


def test_a_deleted_file_has_no_origin(tmp_path):
    (tmp_path / "gone").write_text("x")
    fd = os.open(tmp_path / "gone", os.O_PATH)
    (tmp_path / "gone").unlink()
    with pytest.raises(FileNotFoundError):
        mountinfo.origin(fd, mountinfo.read())
    os.close(fd)


def test_a_mount_that_is_not_in_the_table_has_no_origin(tmp_path):
    fd = os.open(tmp_path, os.O_PATH)
    with pytest.raises(FileNotFoundError):
        mountinfo.origin(fd, {})
    os.close(fd)
