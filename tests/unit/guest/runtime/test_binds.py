"""Planning of mounts: what is the wrapper's, what is crun's, what is nobody's. The kernel's part is played by recorders."""

import contextlib
import os

import pytest

from cofferdam_guest.linux import mountinfo, mounts, namespaces, paths
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import binds, dev

DEV = {"destination": "/dev", "type": "bind", "source": dev.PATH, "options": ["bind"]}


class Kernel:
    """What was asked of it, in order."""

    def __init__(self):
        self.cloned, self.attributes, self.created, self.targets = [], [], [], []

    def clone(self, fd):
        self.cloned.append(os.readlink(f"/proc/self/fd/{fd}"))
        return os.open("/dev/null", os.O_RDONLY)

    def set_attributes(self, fd, **how):
        self.attributes.append(how)

    def create(self, fstype, options, attributes=0):
        self.created.append((fstype, dict(options), attributes))
        return os.open("/dev/null", os.O_RDONLY)

    def ensure(self, root, path, *, directory, links=40):
        self.targets.append((path, directory))
        return os.open("/dev/null", os.O_RDONLY)


@pytest.fixture
def kernel(monkeypatch, context, tmp_path):
    fake = Kernel()
    for name in ("clone", "set_attributes", "create"):
        monkeypatch.setattr(mounts, name, getattr(fake, name))
    monkeypatch.setattr(mounts, "attach", lambda mount, target: None)
    monkeypatch.setattr(paths, "ensure", fake.ensure)
    monkeypatch.setattr(paths, "FileIds", lambda uid, gid: contextlib.nullcontext())
    monkeypatch.setattr(binds, "STAGE", str(tmp_path))
    context.mounts = mountinfo.read()
    context.base, context.userns, context.rootfs = 100000, 99, os.open(tmp_path, os.O_PATH)
    yield fake
    os.close(context.rootfs)


@pytest.fixture
def volume(settings):
    """A named volume's data directory."""
    path = settings.docker_root + "/volumes/v/_data"
    os.makedirs(path)
    return path


@pytest.fixture
def modify(spec, context, kernel):
    def act(*entries):
        spec["mounts"] = list(entries)
        binds.modify(spec, context)
        return spec["mounts"]

    return act


def bind(source, destination, *options):
    return {"type": "bind", "source": str(source), "destination": destination, "options": ["rbind", "rprivate", *options]}


def test_a_volume_is_mounted_here_and_leaves_the_specification(modify, kernel, volume):
    assert modify(bind(volume, "/data")) == []
    assert kernel.cloned == [volume]
    (how,) = kernel.attributes
    assert how["userns"] == 99
    assert how["private"] is True
    assert how["add"] & (mounts.ATTR_NOSUID | mounts.ATTR_NODEV) == mounts.ATTR_NOSUID | mounts.ATTR_NODEV
    assert not how["add"] & mounts.ATTR_RDONLY
    assert kernel.targets == [("/data", True)]


def test_a_read_only_volume(modify, kernel, volume):
    modify(bind(volume, "/data", "ro"))
    assert kernel.attributes[0]["add"] & mounts.ATTR_RDONLY
    assert not kernel.attributes[0].get("clear", 0) & mounts.ATTR_RDONLY


@pytest.mark.parametrize(
    "entry", [{"type": "bind", "options": []}, {"type": "none", "options": ["rbind"]}, {"type": "tmpfs", "options": ["bind"]}]
)
def test_a_bind_by_any_name_is_judged(modify, kernel, tmp_path, entry):
    with pytest.raises(Refusal):
        modify(entry | {"source": str(tmp_path), "destination": "/data"})
    assert kernel.cloned == []


def test_a_file_of_the_vm_is_refused_in_the_known_words(modify, kernel, tmp_path):
    (tmp_path / "daemon.json").touch()
    with pytest.raises(Refusal) as caught:
        modify(bind(tmp_path / "daemon.json", "/mnt/daemon.json"))
    text = f"error in the container spec: can't mount {tmp_path}/daemon.json because it's configured as a restricted host mount"
    assert str(caught.value) == text
    assert caught.value.rule == "restricted-mount"
    assert kernel.cloned == []


def test_a_link_out_of_a_volume_is_judged_by_where_it_leads(modify, volume, tmp_path):
    (tmp_path / "secret").mkdir()
    os.symlink(tmp_path / "secret", volume + "/link")
    for source in (volume + "/link", volume + "/../../..", volume + "/link/."):
        with pytest.raises(Refusal, match="restricted host mount"):
            modify(bind(source, "/data"))


def test_nothing_is_mounted_when_one_of_many_is_refused(modify, kernel, volume, tmp_path):
    with pytest.raises(Refusal):
        modify(bind(volume, "/a"), bind(tmp_path, "/b"))
    assert kernel.targets == []


def test_a_source_that_is_not_there(modify, volume):
    with pytest.raises(Refusal, match="can't mount"):
        modify(bind(volume + "/absent", "/data"))


@pytest.mark.parametrize(
    "where", ["/", "//", "/x/..", "/proc", "/proc/sys", "/sys", "/sys/fs/cgroup", "/a/../proc/x", "//proc/x", "proc/x", "/proc/."]
)
def test_places_of_the_kernels_own_view(modify, volume, where):
    with pytest.raises(Refusal, match="kernel view"):
        modify(bind(volume, where))


def test_the_order_is_that_of_the_specification(modify, kernel, volume):
    os.makedirs(volume + "/sub")
    modify(bind(volume, "/b"), bind(volume + "/sub", "/b/c"), bind(volume, "/a"))
    assert [path for path, _ in kernel.targets] == ["/b", "/b/c", "/a"]


def test_below_dev_it_is_crun_with_a_prepared_source(modify, kernel, volume, tmp_path):
    (left,) = modify(bind(volume, "/dev/shm", "noexec"))
    assert left["source"].startswith(str(tmp_path))
    assert left["source"] != volume
    assert left["destination"] == "/dev/shm"
    assert {"bind", "nosuid", "nodev"} <= set(left["options"])
    assert kernel.cloned == [volume]


@pytest.fixture
def shared(monkeypatch, context, volume):
    """A directory that is on a share, and the namespaces that were asked for: {(user, group): descriptor}."""
    asked = {}

    class Share:
        def __init__(self):
            self.user = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

        def map_ids(self, base, size, user, group):
            asked[(base, size, user, group)] = self.user

        def close(self):
            pass

    monkeypatch.setattr(namespaces, "Nursery", Share)
    monkeypatch.setattr(binds.Sources, "allows", lambda *_, **__: True)
    origin = mountinfo.Origin(mountinfo.Mount(1, "0:99", "/", "/home/me", "virtiofs"), "/", "/home/me")
    monkeypatch.setattr(mountinfo, "origin", lambda fd, table: origin)
    return asked


def test_what_is_the_desktops_users_is_the_containers_users(modify, kernel, spec, shared, volume):
    spec["process"]["user"] = {"uid": 1000, "gid": 100}
    modify(bind(volume, "/src"), bind(volume, "/again"))
    ((how, fd),) = shared.items()
    assert how[1:] == (65536, 1000, 100)
    assert [each["userns"] for each in kernel.attributes] == [fd, fd], "one namespace for all shares"


def test_root_of_a_container_needs_no_other_map(modify, kernel, shared, volume):
    modify(bind(volume, "/src"))
    assert shared == {}
    assert kernel.attributes[0]["userns"] == 99


def test_volumes_keep_the_containers_own_map(modify, kernel, spec, volume):
    spec["process"]["user"] = {"uid": 1000, "gid": 100}
    modify(bind(volume, "/data"))
    assert kernel.attributes[0]["userns"] == 99


def test_below_dev_nothing_is_read_only(modify, volume):
    with pytest.raises(Refusal, match="would not stay read-only"):
        modify(bind(volume, "/dev/data", "ro"))


def test_our_own_dev_stays_for_crun(modify):
    assert modify(DEV) == [DEV]


@pytest.mark.parametrize("where", ["/dev", "/dev/", "/dev/.", "//dev", "/x/../dev"])
def test_nobody_elses_dev_by_any_spelling(modify, tmp_path, volume, where):
    with pytest.raises(Refusal):
        modify(bind(tmp_path, where))


def test_crun_gets_the_place_that_was_judged(modify, volume):
    (left,) = modify({"type": "proc", "source": "proc", "destination": "/link/../proc/", "options": []})
    assert left["destination"] == "/proc"


def test_the_mount_table_is_read_after_the_source_is_open(modify, kernel, context, volume, monkeypatch):
    """An older table may know the mount's number from a mount that is gone."""
    real = mounts.open_path

    def open_path(path):
        old = mountinfo.read().items()
        context.mounts = {number: mountinfo.Mount(number, each.device, "/stale", each.point, each.fstype) for number, each in old}
        return real(path)

    monkeypatch.setattr(mounts, "open_path", open_path)
    assert modify(bind(volume, "/data")) == []
    assert kernel.cloned == [volume]


def test_a_source_keeps_its_own_flags(modify, kernel, volume):
    modify(bind(volume, "/data"))
    assert not kernel.attributes[0].get("clear", 0) & (
        mounts.ATTR_RDONLY | mounts.ATTR_NOEXEC | mounts.ATTR_NOSUID | mounts.ATTR_NODEV
    )


def test_a_place_that_turns_out_to_be_the_root_is_refused(modify, context, volume, monkeypatch):
    """A link in the image: /data -> /"""
    monkeypatch.setattr(paths, "ensure", lambda root, path, *, directory, links=40: os.dup(root))
    with pytest.raises(Refusal, match="root itself"):
        modify(bind(volume, "/data"))


def test_unknown_options_are_refused(modify, volume):
    with pytest.raises(Refusal, match="idmap"):
        modify(bind(volume, "/data", "idmap"))


def test_a_tmpfs_is_made_for_the_container(modify, kernel):
    assert modify({"type": "tmpfs", "source": "tmpfs", "destination": "/scratch", "options": ["noexec", "size=1m"]}) == []
    ((fstype, options, attributes),) = kernel.created
    assert (fstype, options["uid"], options["size"]) == ("tmpfs", "100000", "1m")
    assert attributes & (mounts.ATTR_NODEV | mounts.ATTR_NOEXEC) == mounts.ATTR_NODEV | mounts.ATTR_NOEXEC


KERNELS = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("cgroup", "/sys/fs/cgroup"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("devpts", "/dev/pts"),
    ("mqueue", "/dev/mqueue"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/sys/firmware"),
]


@pytest.mark.parametrize(("kind", "where"), KERNELS)
def test_the_kernels_file_systems_in_their_places_are_left_to_crun(modify, kind, where):
    entry = {"type": kind, "source": kind, "destination": where, "options": ["nosuid"]}
    assert modify(dict(entry)) == [entry]


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("proc", "/mnt"),
        ("proc", "/proc/x"),
        ("proc", "/sys"),
        ("sysfs", "/x"),
        ("sysfs", "/proc"),
        ("cgroup2", "/cg"),
        ("tmpfs", "/proc/x"),
        ("tmpfs", "/sys"),
        ("tmpfs", "/proc"),
        ("debugfs", "/sys/kernel/debug"),
        ("ext4", "/mnt"),
        ("overlay", "/mnt"),
        ("devtmpfs", "/dev"),
        ("mqueue", "/mnt"),
        ("devpts", "/mnt"),
        ("bpf", "/sys/fs/bpf"),
        ("fuse.x", "/mnt"),
        ("virtiofs", "/mnt"),
        ("", "/mnt"),
    ],
)
def test_any_other_file_system_is_refused(modify, kind, where):
    with pytest.raises(Refusal, match="can't mount a file system of type"):
        modify({"type": kind, "source": "x", "destination": where, "options": []})


def test_a_file_system_that_cannot_be_mapped_is_refused(modify, kernel, volume, monkeypatch):
    def fails(fd, **how):
        if "userns" in how:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mounts, "set_attributes", fails)
    with pytest.raises(Refusal, match="cannot be mapped"):
        modify(bind(volume, "/data"))


def test_a_read_only_root_is_sealed_last(modify, kernel, context, volume):
    context.read_only = True
    modify(bind(volume, "/data"))
    assert kernel.attributes[-1] == {"add": mounts.ATTR_RDONLY}
    assert ("/proc", True) in kernel.targets


def test_a_writable_root_is_not(modify, kernel):
    modify(DEV)
    assert kernel.attributes == []
