"""Which files may be mounted. Origins are built by hand; dockerd's directory is a real one, on the device of the test's directory."""

import os

import pytest

from cofferdam_guest.linux import mountinfo
from cofferdam_guest.linux.mountinfo import Mount, Origin
from cofferdam_guest.runtime import sources

OTHER = "d" * 64


class World:
    """A mount table and the rules over it."""

    def __init__(self, context):
        self.context = context
        self.root = context.settings.docker_root
        context.mounts = mountinfo.read()
        self.disk = self.real(self.root)

    def real(self, path):
        fd = os.open(path, os.O_PATH)
        try:
            return mountinfo.origin(fd, self.context.mounts)
        finally:
            os.close(fd)

    def on_disk(self, inside):
        """A file below dockerd's directory, whether it exists or not."""
        return Origin(self.disk.mount, self.disk.path + inside, self.root + inside)

    def mounted(self, point, fstype, device="0:900", root="/", inside=""):
        """A file on a mount of its own."""
        number = 1_000_000 + len(self.context.mounts)
        mount = self.context.mounts[number] = Mount(number, device, root, point, fstype)
        return Origin(mount, mountinfo.join(root, inside) if inside else root, point + inside)

    def allows(self, origin, destination="/data", *, read_only=False):
        return sources.Sources(self.context).allows(origin, destination, read_only=read_only)


@pytest.fixture
def world(context):
    return World(context)


@pytest.fixture
def build(context):
    context.bundle = context.settings.docker_root + "/buildkit/executor/abc"
    return World(context)


# named volumes


@pytest.mark.parametrize("inside", ["/volumes/v/_data", "/volumes/v/_data/sub/dir", "/volumes/with.dots-1/_data"])
def test_data_of_a_volume(world, inside):
    assert world.allows(world.on_disk(inside))


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "/volumes",
        "/volumes/v",
        "/volumes/v/opts.json",
        "/volumes/metadata.db",
        "/volumes/v/_datax",
        "/volumes/v/x/_data",
        "/volumes//_data",
        "/overlay2/x/merged",
        "/overlay2/x/diff/_data",
        "/containers/x/config.v2.json",
        "/volumesx/v/_data",
        "/image",
    ],
)
def test_other_files_of_dockerd(world, inside):
    assert not world.allows(world.on_disk(inside))


def test_what_is_above_dockerds_directory(world):
    assert not world.allows(world.real(os.path.dirname(world.root)))


def test_a_volume_that_is_a_bind_of_something_else_is_what_it_binds(world):
    """type=none,o=bind,device=...: the mount point looks like a volume, the identity does not."""
    point = world.root + "/volumes/evil/_data"
    assert not world.allows(world.mounted(point, "erofs", device="254:0", root="/etc/docker"))
    assert not world.allows(
        world.mounted(point, world.disk.mount.fstype, device=world.disk.mount.device, root=world.disk.path + "/containers")
    )
    assert not world.allows(world.mounted(point, "ext4", device=world.disk.mount.device, root="/"))


def test_a_volume_that_binds_data_of_a_volume_is_one(world):
    point = world.root + "/volumes/good/_data"
    assert world.allows(world.mounted(point, "ext4", device=world.disk.mount.device, root=world.disk.path + "/volumes/v/_data"))


@pytest.mark.parametrize("fstype", ["tmpfs"])
def test_file_systems_that_exist_as_a_volume_only(world, fstype):
    assert world.allows(world.mounted(world.root + "/volumes/v/_data", fstype))
    assert world.allows(world.mounted(world.root + "/volumes/w/_data", fstype, device="0:901", inside="/sub"))
    assert not world.allows(world.mounted(world.root + "/volumes/v/_data", "nfs", device="0:902"))


@pytest.mark.parametrize(
    "fstype",
    ["overlay", "proc", "sysfs", "debugfs", "tracefs", "cgroup2", "devtmpfs", "ext4", "erofs", "virtiofs", "fuse", "bpf"],
)
def test_other_file_systems_as_a_volume(world, fstype):
    assert not world.allows(world.mounted(world.root + "/volumes/v/_data", fstype))


def test_a_tmpfs_of_the_vm_bound_as_a_volume(world):
    """type=none,o=bind,device=/run"""
    world.mounted("/run", "tmpfs", device="0:25")
    assert not world.allows(world.mounted(world.root + "/volumes/v/_data", "tmpfs", device="0:25"))
    assert not world.allows(world.mounted(world.root + "/volumes/w/_data", "tmpfs", device="0:25", root="/docker"))


@pytest.mark.parametrize("inside", ["/volumes/v", "/volumes/v/_datax", "/volumes/_data", "/volumes"])
def test_a_file_system_beside_the_data_of_a_volume(world, inside):
    assert not world.allows(world.mounted(world.root + inside, "tmpfs"))


@pytest.mark.parametrize("point", ["/run", "/tmp", "/dev/shm", "/elsewhere/volumes/v/_data"])
def test_a_tmpfs_anywhere_else(world, point):
    assert not world.allows(world.mounted(point, "tmpfs"))


# what dockerd makes for the container


@pytest.mark.parametrize(
    ("name", "destination"), [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")]
)
def test_injected_files(world, name, destination):
    origin = world.on_disk(f"/containers/{world.context.container}/{name}")
    assert world.allows(origin, destination)
    assert not world.allows(origin, "/etc/other")
    assert not world.allows(world.on_disk(f"/containers/{OTHER}/{name}"), destination)


@pytest.mark.parametrize("name", ["config.v2.json", "hostconfig.json", "x-json.log", "hosts/x", "", "mounts"])
def test_other_files_of_the_container_are_not_injected(world, name):
    origin = world.on_disk(f"/containers/{world.context.container}/{name}")
    for destination in ("/etc/hosts", "/data", "/etc/hostname"):
        assert not world.allows(origin, destination)


def test_shm_and_secrets(world):
    top = f"{world.root}/containers/{world.context.container}/mounts"
    shm = world.mounted(top + "/shm", "tmpfs", device="0:70")
    assert world.allows(shm, "/dev/shm")
    assert not world.allows(shm, "/data")
    assert world.allows(world.mounted(top + "/secrets", "tmpfs", device="0:71", inside="/abc"), "/run/secrets/key")
    assert not world.allows(world.mounted(top + "/other", "tmpfs", device="0:72"), "/dev/shm")
    assert not world.allows(world.mounted(top + "/shm", "tmpfs", device="0:73", root="/docker"), "/dev/shm")
    assert not world.allows(world.mounted(top + "/shm", "overlay", device="0:74"), "/dev/shm")


def test_those_of_another_container_only_with_its_namespaces(world):
    hosts = world.on_disk(f"/containers/{OTHER}/hosts")
    shm = world.mounted(f"{world.root}/containers/{OTHER}/mounts/shm", "tmpfs")
    assert not world.allows(hosts, "/etc/hosts")
    assert not world.allows(shm, "/dev/shm")
    world.context.family = [OTHER]
    assert world.allows(hosts, "/etc/hosts")
    assert world.allows(shm, "/dev/shm")


# host shares


@pytest.mark.parametrize("fstype", ["virtiofs"])
def test_a_share_and_what_is_in_it(world, fstype):
    assert world.allows(world.mounted("/host/src", fstype))
    assert world.allows(world.mounted("/host/deep/er", fstype, device="0:901", inside="/project/file"))


@pytest.mark.parametrize(
    ("point", "fstype"),
    [
        ("/host", "erofs"),
        ("/host/src", "tmpfs"),
        ("/host/src", "ext4"),
        ("/hosts/src", "virtiofs"),
        ("/mnt", "virtiofs"),
        ("/", "virtiofs"),
    ],
)
def test_what_is_no_share(world, point, fstype):
    assert not world.allows(world.mounted(point, fstype))


# builds


@pytest.mark.parametrize(
    "path",
    [
        "/buildkit/executor/hosts",
        "/buildkit/executor/resolv.conf.0",
        "/overlay2/x/diff",
        "/tmp/buildkit-mount1/sub",
        "/tmp/secret",
    ],
)
def test_buildkits_own_mounts(build, path):
    assert build.allows(build.on_disk(path))


@pytest.mark.parametrize(
    "path", ["/buildkit", "/overlay2", "/tmp", "/containers/x/hosts", "/image/x", "/volumes", "/swarm/x", "/buildkitx/y"]
)
def test_builds_get_nothing_else_of_dockerd(build, path):
    assert not build.allows(build.on_disk(path))


def test_build_mounts_are_no_rule_for_containers(world):
    for path in ("/buildkit/executor/hosts", "/overlay2/x/diff", "/tmp/secret"):
        assert not world.allows(world.on_disk(path))
    assert not world.allows(world.mounted(world.root + "/overlay2/x/merged", "overlay"))


def test_injected_files_are_no_rule_for_builds(build):
    assert not build.allows(build.on_disk(f"/containers/{build.context.container}/hosts"), "/etc/hosts")


@pytest.mark.parametrize(
    "bundle", ["/run/containerd/x", "{}/buildkit/executorx/a", "{}/buildkit", "/x{}/buildkit/executor/a", "{}/buildkit/executor"]
)
def test_what_is_no_bundle_of_a_build(context, bundle):
    context.bundle = bundle.format(context.settings.docker_root)
    assert not context.is_build


# stores of inner engines


def test_a_store_of_ones_own(world, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "STORES", str(tmp_path / "stores"))
    own, other = (tmp_path / "stores" / each / "var-lib-docker" for each in (world.context.container, OTHER))
    for each in (own, other):
        each.mkdir(parents=True)
    assert world.allows(world.real(own))
    assert not world.allows(world.real(other))
    assert not world.allows(world.real(own.parent))
    assert not world.allows(world.real(own.parent.parent))


# the settings' lists


def test_lists_allow_what_they_name(world, tmp_path):
    (tmp_path / "init").touch()
    (tmp_path / "init2").touch()
    origin = world.real(tmp_path / "init")
    assert not world.allows(origin, read_only=True)
    world.context.settings.allow_read_only = (str(tmp_path / "init"),)
    assert world.allows(origin, read_only=True)
    assert not world.allows(origin, read_only=False)
    assert not world.allows(world.real(tmp_path / "init2"), read_only=True)
    world.context.settings.allow_read_write = (str(tmp_path / "init"),)
    assert world.allows(origin, read_only=False)


def test_a_listed_directory_is_meant_with_all_below_and_nothing_above(world, tmp_path):
    (tmp_path / "a/b/c").mkdir(parents=True)
    world.context.settings.allow_read_write = (str(tmp_path / "a/b"),)
    assert world.allows(world.real(tmp_path / "a/b"))
    assert world.allows(world.real(tmp_path / "a/b/c"))
    assert not world.allows(world.real(tmp_path / "a"))


def test_links_end_at_the_same_identity(world, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "away").symlink_to("/usr")
    world.context.settings.allow_read_write = (str(tmp_path / "link"),)
    assert world.allows(world.real(tmp_path / "real"))
    assert world.allows(world.real(tmp_path / "link"))
    assert not world.allows(world.real(tmp_path / "away"))


def test_the_same_path_on_another_device_is_something_else(world, tmp_path):
    (tmp_path / "file").touch()
    world.context.settings.allow_read_write = (str(tmp_path / "file"),)
    same = world.real(tmp_path / "file")
    assert world.allows(Origin(Mount(1, same.mount.device, "/x", "/y", "ext4"), same.path, "/y/elsewhere"))
    assert not world.allows(Origin(Mount(1, "0:999", same.mount.root, same.mount.point, "ext4"), same.path, same.visible))


def test_a_listed_path_that_is_not_there_allows_nothing(world, tmp_path):
    world.context.settings.allow_read_write = (str(tmp_path / "absent"),)
    assert not world.allows(world.real(tmp_path))


def test_deny_wins_over_every_rule(world):
    inside = "/volumes/v/_data"
    os.makedirs(world.root + inside + "/secret")
    origin = world.on_disk(inside + "/secret/deep")
    assert world.allows(origin)
    world.context.settings.allow_read_write = (world.root + inside,)
    world.context.settings.deny = (world.root + inside + "/secret",)
    assert not world.allows(origin)
    assert world.allows(world.on_disk(inside + "/secrets"))


def test_what_is_around_a_denied_path_is_denied_too(world):
    """Who may write the parent could move the denied path out of the way."""
    inside = "/volumes/v/_data"
    os.makedirs(world.root + inside + "/a/secret")
    world.context.settings.deny = (world.root + inside + "/a/secret",)
    assert not world.allows(world.on_disk(inside))
    assert not world.allows(world.on_disk(inside + "/a"), read_only=True)
    assert world.allows(world.on_disk(inside + "/b"))
    assert world.allows(world.on_disk("/volumes/w/_data"))


def test_a_denied_path_that_cannot_be_judged_is_an_error_not_a_yes(world, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    world.context.settings.deny = (str(tmp_path / "loop"),)
    with pytest.raises(OSError):
        world.allows(world.on_disk("/volumes/v/_data"))
