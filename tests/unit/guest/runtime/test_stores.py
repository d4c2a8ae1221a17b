"""Directories for inner engines, and the views of /proc."""

import os

import pytest

from cofferdam_guest.runtime.modifiers import stores, view


@pytest.fixture
def image(context, tmp_path, monkeypatch):
    """The image's root; stores go below the test's directory."""
    monkeypatch.setattr(stores, "STORES", str(tmp_path / "stores"))
    root = tmp_path / "image"
    root.mkdir()
    context.unmapped = os.open(root, os.O_PATH)
    yield root
    os.close(context.unmapped)


@pytest.fixture
def added(spec, context, hostconfig, image):
    def modify(*taken, privileged=True):
        hostconfig(Privileged=privileged)
        spec["mounts"] = [{"type": "bind", "source": "/x", "destination": each, "options": []} for each in taken]
        stores.modify(spec, context)
        return {each["destination"]: each["source"] for each in spec["mounts"][len(taken) :]}

    return modify


def test_an_ordinary_container_gets_none(added, tmp_path):
    assert added(privileged=False) == {}
    assert not (tmp_path / "stores").exists()


def test_a_build_gets_none(added, context):
    context.bundle = context.settings.docker_root + "/buildkit/executor/x"
    assert added() == {}


def test_a_privileged_one_gets_a_directory_of_its_own(added, context, tmp_path):
    (source,) = added().values()
    assert os.path.isdir(source)
    assert os.path.dirname(source) == f"{tmp_path}/stores/{context.container}"
    assert list(added()) == ["/var/lib/docker"]


def test_other_places_only_where_the_image_has_them(added, image):
    (image / "var/lib/containerd").mkdir(parents=True)
    (image / "var/lib/kubelet").touch()
    assert sorted(added()) == ["/var/lib/containerd", "/var/lib/docker"]


@pytest.mark.parametrize(
    "taken", ["/var/lib/docker", "/var/lib/docker/", "/var/lib", "/var/lib/docker/overlay2", "/var/./lib/docker"]
)
def test_what_the_user_mounted_there_stays(added, taken):
    assert added(taken) == {}


def test_a_mount_elsewhere_does_not_count(added):
    assert list(added("/var/lib/dockers", "/var/libx")) == ["/var/lib/docker"]


def test_the_first_start_copies_what_the_image_has_and_later_ones_keep(added, image):
    (image / "var/lib/docker/sub").mkdir(parents=True)
    (image / "var/lib/docker/sub/file").write_text("image")
    os.symlink("/etc/passwd", image / "var/lib/docker/link")
    (source,) = added().values()
    with open(source + "/sub/file", "r+") as file:
        assert file.read() == "image"
        file.seek(0)
        file.write("later")
    assert os.readlink(source + "/link") == "/etc/passwd"
    added()
    with open(source + "/sub/file") as file:
        assert file.read() == "later"


def test_a_copy_that_was_cut_off_is_begun_again(added, image, context, tmp_path):
    (image / "var/lib/docker").mkdir(parents=True)
    (image / "var/lib/docker/file").write_text("x")
    half = tmp_path / "stores" / context.container / "var-lib-docker.new"
    half.mkdir(parents=True)
    (half / "rest").touch()
    (source,) = added().values()
    assert os.listdir(source) == ["file"]


def test_a_link_in_the_image_does_not_lead_into_the_vm(added, image, tmp_path):
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm/secret").touch()
    (image / "var/lib").mkdir(parents=True)
    os.symlink(tmp_path / "vm", image / "var/lib/docker")
    (source,) = added().values()
    assert os.listdir(source) == []


@pytest.fixture
def views(spec, context, tmp_path, monkeypatch):
    monkeypatch.setattr(view, "ROOT", str(tmp_path / "view"))
    (tmp_path / "view/proc").mkdir(parents=True)

    def modify():
        spec["mounts"] = []
        view.modify(spec, context)
        return spec["mounts"]

    return modify


def test_the_views_cover_files_of_proc_one_by_one(views, tmp_path):
    mounts = views()
    assert "/proc/uptime" in [each["destination"] for each in mounts]
    for each in mounts:
        assert each["destination"].startswith("/proc/")
        assert each["source"] == f"{tmp_path}/view{each['destination']}"
        assert each["type"] == "bind"


def test_no_views_without_lxcfs_in_builds_and_in_unmasked_containers(views, spec, context, tmp_path):
    spec["linux"]["maskedPaths"] = []
    assert views() == []
    spec["linux"]["maskedPaths"] = ["/proc/kcore"]
    bundle, context.bundle = context.bundle, context.settings.docker_root + "/buildkit/executor/x"
    assert views() == []
    context.bundle = bundle
    assert views()
    (tmp_path / "view/proc").rmdir()
    assert views() == []
