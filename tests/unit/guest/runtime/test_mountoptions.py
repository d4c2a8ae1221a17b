"""Option lists of mounts."""

import pytest

from cofferdam_guest.linux import mounts
from cofferdam_guest.runtime import mountoptions
from cofferdam_guest.runtime.errors import Refusal

BASE, SIZE = 165536, 65536


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ([], 0),
        (["rbind", "rprivate"], 0),
        (["rbind", "rw", "rslave"], 0),
        (["ro"], mounts.ATTR_RDONLY),
        (["rro"], mounts.ATTR_RDONLY),
        (["nosuid", "nodev", "noexec"], mounts.ATTR_NOSUID | mounts.ATTR_NODEV | mounts.ATTR_NOEXEC),
        (["rw", "ro"], mounts.ATTR_RDONLY),
        (["ro", "rw"], mounts.ATTR_RDONLY),
        (["noatime"], mounts.ATTR_NOATIME),
        (["strictatime", "nodiratime"], mounts.ATTR_STRICTATIME | mounts.ATTR_NODIRATIME),
    ],
)
def test_flags(options, bits):
    assert mountoptions.flags(options) == bits


@pytest.mark.parametrize("option", ["shared", "rshared", "slave", "unbindable"])
def test_propagation_is_ignored(option):
    assert mountoptions.flags(["rbind", option]) == 0


@pytest.mark.parametrize(
    "option", ["remount", "idmap", "ridmap", "tmpcopyup", "copy-symlink", "src-nofollow", "mand", "RO", "", "uid=0"]
)
def test_an_unknown_option_is_refused(option):
    with pytest.raises(Refusal, match="is not supported") as caught:
        mountoptions.flags(["rbind", option])
    assert caught.value.rule == "mount"


def test_what_has_to_be_cleared_for_access_times():
    assert mountoptions.atime_clear(mounts.ATTR_NOATIME) == mounts.ATTR_ATIME
    assert mountoptions.atime_clear(mounts.ATTR_STRICTATIME | mounts.ATTR_RDONLY) == mounts.ATTR_ATIME
    assert mountoptions.atime_clear(mounts.ATTR_RDONLY | mounts.ATTR_NODIRATIME) == 0


def made(*options):
    bits, own = mountoptions.tmpfs(list(options), BASE, SIZE)
    return bits, dict(own)


def test_a_tmpfs_belongs_to_the_containers_root():
    assert made() == (0, {"source": "tmpfs", "uid": "165536", "gid": "165536", "mode": "1777"})


def test_owners_are_shifted_into_the_range():
    own = made("uid=1000", "gid=65535")[1]
    assert (own["uid"], own["gid"]) == ("166536", "231071")


@pytest.mark.parametrize("owner", ["65536", "4294967295", "-1", "", "+1", "1.0", "0x10", "root", "٣", "1 "])
@pytest.mark.parametrize("key", ["uid", "gid"])
def test_owners_outside_the_container_are_refused(key, owner):
    with pytest.raises(Refusal, match=f"tmpfs option {key}="):
        made(f"{key}={owner}")


def test_flags_and_values_of_a_tmpfs_together():
    bits, own = made("noexec", "size=65536k", "rw", "mode=700", "nr_inodes=5")
    assert bits == mounts.ATTR_NOEXEC
    assert (own["size"], own["mode"], own["nr_inodes"]) == ("65536k", "700", "5")


@pytest.mark.parametrize("option", ["source=/etc", "huge=always", "mpol=bind:0", "usrquota", "fd=3", "=", "lowerdir=/etc"])
def test_unknown_options_of_a_tmpfs_are_refused(option):
    with pytest.raises(Refusal):
        made(option)
