"""Volumes and other mounts: two containers of different id ranges see the same 0-based owners, whatever happened between."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from vmtest.flows import Box, box, new_name, packed, shifted_base, volume
from vmtest.vm import Vm

pytestmark = pytest.mark.vm


def volume_path(vm: Vm, name: str) -> str:
    return vm.succeed("volume", "inspect", "--format", "{{.Mountpoint}}", name).strip()


def owners_in_vm(vm: Vm, path: str) -> dict[str, str]:
    lines = vm.shell(f"cd {path} && stat -c '%n %u:%g' *").split("\n")
    return dict(line.split(" ") for line in lines if line)


class Pair:
    """Two running containers that share a volume at /data."""

    def __init__(self, vm: Vm, shared: str, first: Box, second: Box) -> None:
        self.vm, self.shared, self.first, self.second = vm, shared, first, second


@pytest.fixture(scope="module")
def pair(vm: Vm) -> Iterator[Pair]:
    with volume(vm) as shared, box(vm, "-v", f"{shared}:/data") as first, box(vm, "-v", f"{shared}:/data") as second:
        yield Pair(vm, shared, first, second)


@pytest.mark.isolation(why="the two containers have different ranges, yet owners on the volume are 0-based for both and on disk")
def test_two_containers_share_a_volume(pair: Pair) -> None:
    one, two = pair.first, pair.second
    one.sh(
        "echo one >/data/root; echo one >/data/user; chown 1000:1001 /data/user; echo x >/data/top; chown 65535:65535 /data/top"
    )
    two.sh("echo two >>/data/root; mkdir /data/dir; echo two >/data/dir/file; chmod 4755 /data/user")
    wanted = ["dir 0:0 755", "root 0:0 644", "top 65535:65535 644", "user 1000:1001 4755"]
    listing = "cd /data; stat -c '%n %u:%g %a' *"
    assert one.sh(listing).split("\n") == wanted
    assert two.sh(listing).split("\n") == wanted
    assert one.sh("cat /data/root /data/dir/file").split("\n") == ["one", "two", "two"]
    two.sh("rm /data/top", "--user", "0")
    assert owners_in_vm(pair.vm, volume_path(pair.vm, pair.shared)) == {"dir": "0:0", "root": "0:0", "user": "1000:1001"}
    ranges = {shifted_base(box.exec("cat", "/proc/self/uid_map")) for box in (one, two)}
    assert len(ranges) == 2


@pytest.mark.isolation(why="an owner outside the container's range cannot be written to the volume")
def test_owner_outside_the_range_is_refused(pair: Pair) -> None:
    pair.first.refuses("echo x >/data/far; chown 65536 /data/far", match="Invalid argument")


def test_permissions_hold_for_other_users(pair: Pair) -> None:
    pair.first.sh(
        "mkdir -p /data/private; echo secret >/data/private/file; chmod 600 /data/private/file; chmod 711 /data/private"
    )
    pair.second.refuses("cat /data/private/file", "--user", "1000:1000", match="[Pp]ermission denied")
    pair.second.sh("chown 1000:1000 /data/private/file")
    assert pair.first.sh("cat /data/private/file", "--user", "1000:1000") == "secret"
    pair.first.refuses("touch /data/private/new", "--user", "1000:1000", match="[Pp]ermission denied")


@pytest.mark.isolation(
    why="after a restart the container has another range, and the volume and its own files still have 0-based owners"
)
def test_owners_after_restart_with_another_range(vm: Vm) -> None:
    with volume(vm) as shared, box(vm, "-v", f"{shared}:/data") as victim:
        victim.sh(
            "echo x >/data/root; echo x >/data/user; chown 1000:1000 /data/user; echo x >/own; echo x >/owned; chown 1000:1000 /owned"
        )
        before = victim.base
        vm.succeed("stop", "--time", "0", victim.name)
        with box(vm) as taker:
            assert taker.base == before, "the lowest free range was not given to the next container"
            vm.succeed("start", victim.name)
            assert shifted_base(victim.exec("cat", "/proc/self/uid_map")) != before
            listing = victim.sh("stat -c '%n %u:%g' /data/root /data/user /own /owned /bin/sh")
        assert listing.split("\n") == ["/data/root 0:0", "/data/user 1000:1000", "/own 0:0", "/owned 1000:1000", "/bin/sh 0:0"]
        victim.sh("echo y >>/data/root; echo y >>/own; chown 0:0 /data/user")


def test_volume_takes_the_owner_of_the_image_directory(vm: Vm) -> None:
    """An empty volume gets the image's files with their owners; the image's non-root user writes there."""
    image = f"cofferdam-test/{new_name('owned')}"
    with box(vm) as maker:
        maker.sh(
            "mkdir /srv/ && mkdir /srv/data && echo seed >/srv/data/seed && chown -R 1001:1002 /srv/data && chmod 700 /srv/data"
        )
        vm.succeed("commit", "--change", "USER 1001:1002", maker.name, image)
    try:
        with volume(vm) as fresh, box(vm, "-v", f"{fresh}:/srv/data", image=image) as user:
            assert user.base > 0
            assert user.sh("id -u; id -g; cat /srv/data/seed; stat -c %u:%g:%a /srv/data").split("\n") == [
                "1001",
                "1002",
                "seed",
                "1001:1002:700",
            ]
            user.sh("echo mine >/srv/data/mine")
            assert owners_in_vm(vm, volume_path(vm, fresh)) == {"mine": "1001:1002", "seed": "1001:1002"}
    finally:
        vm.docker("rmi", "--force", image, check=False)


def test_non_root_user_cannot_write_a_fresh_volume(vm: Vm) -> None:
    with volume(vm) as fresh:
        vm.fail(
            "run",
            "--rm",
            "--user",
            "1001:1001",
            "-v",
            f"{fresh}:/data",
            vm.image("busybox"),
            "touch",
            "/data/x",
            match="Permission denied",
        )


def test_tmpfs_mount_is_limited_and_owned_by_root(vm: Vm) -> None:
    mount = "type=tmpfs,destination=/scratch,tmpfs-size=1048576,tmpfs-mode=1770"
    with box(vm, "--mount", mount) as made:
        assert made.sh("stat -c %u:%g:%a /scratch; grep -c ' /scratch tmpfs ' /proc/mounts").split("\n") == ["0:0:1770", "1"]
        made.sh("dd if=/dev/zero of=/scratch/fits bs=1k count=900 2>/dev/null; rm /scratch/fits")
        made.refuses("dd if=/dev/zero of=/scratch/big bs=1k count=2000", match="No space left")
        made.refuses("touch /scratch/x", "--user", "1001:1001", match="Permission denied")


def test_volume_nested_in_a_tmpfs(vm: Vm) -> None:
    with volume(vm) as inner, box(vm, "--tmpfs", "/scratch", "-v", f"{inner}:/scratch/inner/deep") as made:
        kinds = made.sh("awk '$2 ~ /^.scratch/ {print $2, $3}' /proc/mounts | sort").split("\n")
        assert kinds == ["/scratch tmpfs", "/scratch/inner/deep ext4"]
        made.sh("echo kept >/scratch/inner/deep/kept; echo gone >/scratch/gone")
        assert owners_in_vm(vm, volume_path(vm, inner)) == {"kept": "0:0"}
        vm.succeed("restart", "--time", "0", made.name)
        assert made.sh("cat /scratch/inner/deep/kept; ls /scratch").split("\n") == ["kept", "inner"]


def test_tmpfs_nested_in_a_volume(vm: Vm) -> None:
    with volume(vm) as outer, box(vm, "-v", f"{outer}:/data", "--tmpfs", "/data/tmp") as made:
        made.sh("echo kept >/data/kept; echo gone >/data/tmp/gone")
        path = volume_path(vm, outer)
        assert owners_in_vm(vm, path) == {"kept": "0:0", "tmp": "0:0"}
        assert vm.shell(f"ls -A {path}/tmp").strip() == ""


def test_subpath_shows_only_its_part(vm: Vm) -> None:
    with volume(vm) as whole:
        with box(vm, "-v", f"{whole}:/data") as maker:
            maker.sh(
                "mkdir /data/part; echo in >/data/part/in; echo out >/data/out; echo cfg >/data/app.conf; ln -s / /data/escape"
            )
        reference = vm.image("busybox")
        directory = f"type=volume,source={whole},destination=/part,volume-subpath=part"
        single = f"type=volume,source={whole},destination=/etc/app.conf,volume-subpath=app.conf,readonly"
        with box(vm, "--mount", directory, "--mount", single) as made:
            assert made.sh("ls -A /part; cat /etc/app.conf; stat -c %u:%g /part/in").split("\n") == ["in", "cfg", "0:0"]
            made.refuses("echo x >/etc/app.conf", match="Read-only file system")
            made.refuses("cat /part/../out", match="No such file")
            made.sh("echo more >/part/more")
        escape = f"type=volume,source={whole},destination=/part,volume-subpath=escape/etc"
        vm.fail("run", "--rm", "--mount", escape, reference, "true", match="subpath")
        assert owners_in_vm(vm, f"{volume_path(vm, whole)}/part") == {"in": "0:0", "more": "0:0"}


@pytest.mark.isolation(why="a read-only volume stays so for a container with every capability")
def test_read_only_volume(vm: Vm, pair: Pair) -> None:
    pair.first.sh("echo x >/data/kept")
    with box(
        vm, "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "-v", f"{pair.shared}:/data:ro", image="debian"
    ) as reader:
        reader.refuses("echo y >/data/kept", match="Read-only file system")
        reader.refuses("mount -o remount,bind,rw /data", match="permission denied")
        reader.refuses("mkdir /b; mount --bind /data /b; mount -o remount,bind,rw /b", match="permission denied")
        reader.refuses("umount /data", match="not mounted|Invalid argument|block devices are not permitted|permission")
        assert reader.sh("cat /data/kept") == "x"


def test_volumes_from_another_container(vm: Vm, pair: Pair) -> None:
    pair.first.sh("echo shared >/data/from")
    with box(vm, "--volumes-from", pair.first.name) as writer, box(vm, "--volumes-from", f"{pair.first.name}:ro") as reader:
        writer.sh("cat /data/from; echo more >>/data/from; chown 7:8 /data/from")
        assert reader.sh("cat /data/from; stat -c %u:%g /data/from").split("\n") == ["shared", "more", "7:8"]
        reader.refuses("echo z >>/data/from", match="Read-only file system")


def test_volume_over_a_symlink_of_the_image_stays_inside(vm: Vm) -> None:
    """A destination that is a symbolic link is followed inside the container's root, never in the VM's."""
    image = f"cofferdam-test/{new_name('link')}"
    canary = f"/run/{new_name('canary')}"
    with box(vm) as maker:
        maker.sh(f"ln -s {canary} /data")
        vm.succeed("commit", maker.name, image)
    try:
        with volume(vm) as inner, box(vm, "-v", f"{inner}:/data", image=image) as made:
            made.sh("echo x >/data/file")
            assert owners_in_vm(vm, volume_path(vm, inner)) == {"file": "0:0"}
            assert made.sh(f"cat {canary}/file") == "x"
        assert vm.shell(f"test -e {canary} && echo there || echo absent").strip() == "absent"
    finally:
        vm.docker("rmi", "--force", image, check=False)


def test_files_copied_into_a_stopped_container_are_its_configuration(vm: Vm) -> None:
    """What `docker cp` puts into a created container, as compose does with its configs, belongs to the container's root."""
    name = vm.name()
    vm.succeed(
        "create", "--name", name, vm.image("busybox"), "sh", "-c", "cat /app.conf; stat -c %u:%g:%a /app.conf; : >>/app.conf"
    )
    vm.docker("cp", "-", f"{name}:/", input=packed({"app.conf": (b"answer=42\n", 0, 0, 0o440)}))
    output = vm.succeed("start", "--attach", name)
    assert re.fullmatch(r"answer=42\n0:0:440\n", output)
