import pytest

GOOD = [
    {},
    {"size": "1g"},
    {"type": "tmpfs", "device": "tmpfs"},
    {"type": "tmpfs", "device": "tmpfs", "o": ""},
    {"type": "tmpfs", "device": "none", "o": "size=100m,uid=1000,gid=1000,mode=0755,nr_inodes=1k,ro,nodev,noexec,nosuid,noatime"},
]
BAD = [
    {"type": "none", "o": "bind", "device": "/etc/docker"},
    {"o": "bind", "type": "none", "device": "/"},
    {"type": "none", "o": "rw,bind", "device": "/etc"},
    {"type": "none", "o": "rbind", "device": "/etc"},
    {"type": "none", "o": "bind ", "device": "/etc"},
    {"type": "", "o": "bind", "device": "/etc"},
    {"type": "bind", "device": "/etc"},
    {"o": "bind", "device": "/etc"},
    {"device": "/etc"},
    {"type": "tmpfs", "device": "/etc"},
    {"type": "tmpfs", "device": "/etc", "o": "bind"},
    {"type": "tmpfs"},
    {"type": "tmpfs ", "device": "tmpfs"},
    {"type": "TMPFS", "device": "tmpfs"},
    *(
        {"type": "tmpfs", "device": "tmpfs", "o": each}
        for each in ("bind", "size=1,bind", "rbind", "remount", "dev", "suid", "a=b", "mode=9")
    ),
    *(
        {"type": "tmpfs", "device": "tmpfs", "o": each}
        for each in ("size=1 ", " ro", "ro,,rw", "uid=-1", "size", "mpol=bind", "shared")
    ),
    {"type": "ext4", "device": "/dev/vda1"},
    {"type": "overlay", "device": "overlay", "o": "lowerdir=/etc"},
    *(
        {"type": each, "device": "none"}
        for each in ("debugfs", "tracefs", "securityfs", "bpf", "proc", "sysfs", "cgroup2", "devtmpfs")
    ),
    *({"type": each, "device": "tag"} for each in ("virtiofs", "9p")),
    {"type": "nfs", "device": ":/export", "o": "addr=10.0.2.2,rw"},
    {"type": "nfs", "device": ":/export", "o": "addr=192.0.2.1,rw"},
    {"type": "cifs", "device": "//192.0.2.1/share", "o": "username=a"},
    {"size": "1;x"},
    {"mountpoint": "/etc"},
    {"Type": "tmpfs", "device": "tmpfs"},
]


@pytest.mark.parametrize("options", GOOD)
def test_volumes_of_the_engines_own_and_tmpfs_pass(ask, options):
    assert ask("VolumeCreate", {"Name": "vol", "Driver": "local", "DriverOpts": options}).body["DriverOpts"] == options


@pytest.mark.parametrize("options", BAD)
def test_everything_else_is_refused_and_the_text_says_what_a_volume_is(ask, options):
    error = ask.refused("VolumeCreate", {"Name": "vol", "DriverOpts": options})
    assert (error.status, error.rule) == (403, "volume-options")
    assert "a volume is a directory of the engine's own, or a tmpfs" in error.message


@pytest.mark.parametrize("options", BAD)
def test_a_volume_that_exists_already_is_judged_by_its_options(ask, options):
    ask.facts.volumes["vol"] = {"Driver": "local", "Options": options}
    assert ask.refused_create({"Binds": ["vol:/x"]}).rule == "volume-options"


def test_other_drivers_are_refused(ask):
    assert ask.refused("VolumeCreate", {"Driver": "vieux/sshfs"}).rule == "volume-driver"
    ask.facts.volumes["vol"] = {"Driver": "vieux/sshfs", "Options": None}
    assert ask.refused_create({"Binds": ["vol:/x"]}).rule == "volume-driver"


def test_volumes_need_no_name_and_no_options(ask):
    ask("VolumeCreate", {})
    ask("VolumeCreate", None)
