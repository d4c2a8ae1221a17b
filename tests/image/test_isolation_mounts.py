"""Mounts from outside: the VM's files are refused by what they are, not by how they are spelled, and so are places that are the kernel's."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from vmtest.flows import box, new_name, packed, volume
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

# what the API proxy, asked by the wrapper, says about its own socket
DENIED = r"docker socket mount denied for container with image \"docker.io/cofferdam-test/busybox\""
DOOR = ("socket", "socket-in-run", "socket-read-only", "socket-mount")
RESTRICTED = r"can't mount \S+ because it's configured as a restricted host mount"
# where propagation is asked for, which dockerd itself does for sources around its own directory: no mount of the VM is shared
NOT_SHARED = r"path \S+ is mounted on \S+ but it is not a shared or slave mount"
# the published text; dockerd puts words of its own in the middle since version 25
ROW_15 = (
    r"^docker: Error response from daemon: (failed to create task for container: )?failed to create shim task: OCI runtime create failed: "
    "error in the container spec: can't mount /etc/docker/daemon.json because it's configured as a restricted host mount: unknown"
)
VOLUMES = "/var/lib/docker/volumes"


@dataclass(frozen=True)
class Canary:
    """A file of the VM with random content, in a directory of its own in /run."""

    vm: Vm
    folder: str
    token: str

    @property
    def path(self) -> str:
        return f"{self.folder}/canary"

    def check(self) -> None:
        assert self.vm.shell(f"cat {self.path}; ls {self.folder}").split() == [self.token, "canary"]


@pytest.fixture
def canary(vm: Vm) -> Iterator[Canary]:
    made = Canary(vm, f"/run/{new_name('canary')}", uuid.uuid4().hex)
    vm.shell(f"mkdir {made.folder}; echo {made.token} >{made.path}")
    yield made
    vm.shell(f"rm -r {made.folder}")


@pytest.fixture(scope="module")
def links(vm: Vm) -> Iterator[str]:
    """The directory of a volume in which a container has made symbolic links that lead out of it."""
    with volume(vm) as name:
        script = "cd /data; ln -s / root; ln -s /etc/docker/daemon.json file; ln -s ../../../../../../etc up; mkdir real; ln -s /run real/run"
        vm.run("-v", f"{name}:/data", command=("sh", "-ec", script))
        yield f"{VOLUMES}/{name}/_data"


@pytest.mark.isolation(why="plain Docker mounts any file of the VM")
def test_file_of_the_vm_with_the_documented_words(vm: Vm) -> None:
    vm.fail("run", "--rm", "-v", "/etc/docker/daemon.json:/mnt/daemon.json", vm.image("busybox"), "true", match=ROW_15)


SOURCES = {
    "root": "/",
    "etc": "/etc",
    "usr": "/usr",
    "run": "/run",
    "var-run": "/var/run",
    "var": "/var",
    "docker": "/var/lib/docker",
    "volumes": VOLUMES,
    "layers": "/var/lib/docker/overlay2",
    "containers": "/var/lib/docker/containers",
    "volume-without-data": f"{VOLUMES}/@VOLUME@",
    "sys": "/sys",
    "cgroup": "/sys/fs/cgroup",
    "proc": "/proc",
    "proc-sys": "/proc/sys",
    "dev": "/dev",
    "dev-shm": "/dev/shm",
    "disk": "/dev/vdb",
    "tmp": "/tmp",
    "own-run": "@CANARY@",
    "own-file": "@CANARY@/canary",
    "dots": "@CANARY@/../../etc/docker",
    "slashes": "//run//./",
    "root-of-init": "/proc/1/root",
    "below-root-of-init": "/proc/1/root/etc/docker",
    "own-root": "/proc/self/root/run",
    "directory-of-init": "/proc/1/cwd",
    "descriptors-of-init": "/proc/1/fd",
    "link-to-root": "@LINKS@/root",
    "link-to-file": "@LINKS@/file",
    "link-with-dots": "@LINKS@/up",
    "below-a-link": "@LINKS@/root/etc",
    "link-in-a-directory": "@LINKS@/real/run",
}


def filled(text: str, canary: Canary, links: str) -> str:
    return text.replace("@CANARY@", canary.folder).replace("@LINKS@", links).replace("@VOLUME@", links.split("/")[-2])


def refused(vm: Vm, canary: Canary, options: Sequence[str], match: str = RESTRICTED) -> None:
    """The container is not started, and the VM's file is as it was."""
    own = canary.folder.removeprefix("/run/")
    script = f"for f in /mnt /mnt/canary /mnt/run/{own}/canary /mnt/{own}/canary; do test -f $f && echo hit >$f; done; true"
    vm.fail("run", "--rm", "--privileged", *options, vm.image("busybox"), "sh", "-c", script, match=match)
    canary.check()


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.isolation(why="plain Docker mounts any file of the VM")
def test_source_is_refused(vm: Vm, canary: Canary, links: str, source: str) -> None:
    refused(vm, canary, ("-v", f"{filled(source, canary, links)}:/mnt"))


def test_modules_of_the_kernel_are_readable(vm: Vm, canary: Canary) -> None:
    """What kind and its like mount; the VM has nothing there but a text."""
    said = vm.succeed("run", "--rm", "-v", "/lib/modules:/lib/modules:ro", vm.image("busybox"), "cat", "/lib/modules/README")
    assert said == vm.shell("cat /usr/lib/modules/README")
    for options in (("-v", "/lib/modules:/mnt"), ("-v", "/lib/modules/..:/mnt:ro"), ("-v", "/lib:/mnt:ro")):
        refused(vm, canary, options)


@pytest.mark.isolation(why="where the VM's own mounts are private nothing can be had from them by propagation")
@pytest.mark.parametrize(
    "source", ["/run:/mnt:rslave", f"{VOLUMES}/any/_data/../../../../../../run:/mnt"], ids=["asked", "by-dockerd"]
)
def test_propagation_from_the_vm_is_refused(vm: Vm, canary: Canary, source: str) -> None:
    refused(vm, canary, ("-v", source), match=NOT_SHARED)


FORMS = {
    "read-only": ("-v", "/run:/mnt:ro"),
    "mount": ("--mount", "type=bind,source=/run,destination=/mnt"),
    "mount-read-only": ("--mount", "type=bind,src=/etc/docker/daemon.json,dst=/mnt/daemon.json,readonly"),
    "mount-not-recursive": ("--mount", "type=bind,source=/,destination=/mnt,bind-recursive=disabled"),
    "mount-read-only-not-recursive": ("--mount", "type=bind,source=/,destination=/mnt,readonly,bind-recursive=writable"),
    "socket": ("-v", "/var/run/docker.sock:/var/run/docker.sock"),
    "socket-in-run": ("-v", "/run/docker.sock:/run/docker.sock"),
    "socket-read-only": ("-v", "/run/docker.sock:/mnt/sock:ro"),
    "socket-mount": ("--mount", "type=bind,source=/var/run/docker.sock,target=/var/run/docker.sock"),
    "socket-by-init": ("-v", "/proc/1/root/run/docker.sock:/mnt/sock"),
    "socket-of-containerd": ("-v", "/run/containerd/containerd.sock:/mnt/sock"),
    "directory-of-containerd": ("-v", "/run/containerd:/mnt"),
    "state-of-runtime": ("-v", "/run/cofferdam:/mnt"),
    "bind-volume": ("--mount", "type=volume,dst=/mnt,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/etc/docker"),
    "bind-volume-of-canary": (
        "--mount",
        "type=volume,dst=/mnt,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=@CANARY@",
    ),
    "bind-volume-read-only": (
        "--mount",
        'type=volume,dst=/mnt,"volume-opt=o=bind,ro",volume-opt=type=none,volume-opt=device=/run',
    ),
    "recursive-bind-volume": (
        "--mount",
        "type=volume,dst=/mnt,volume-opt=type=none,volume-opt=o=rbind,volume-opt=device=@CANARY@",
    ),
    "disk-volume": ("--mount", "type=volume,dst=/mnt,volume-opt=type=ext4,volume-opt=device=/dev/vdb"),
    "overlay-volume": (
        "--mount",
        "type=volume,dst=/mnt,volume-opt=type=overlay,volume-opt=device=overlay,volume-opt=o=lowerdir=/etc:/usr",
    ),
    "proc-volume": ("--mount", "type=volume,dst=/mnt,volume-opt=type=proc,volume-opt=device=proc"),
    "sysfs-volume": ("--mount", "type=volume,dst=/mnt,volume-opt=type=sysfs,volume-opt=device=sysfs"),
    "devtmpfs-volume": ("--mount", "type=volume,dst=/mnt,volume-opt=type=devtmpfs,volume-opt=device=devtmpfs"),
    "cgroup-volume": ("--mount", "type=volume,dst=/mnt,volume-opt=type=cgroup2,volume-opt=device=cgroup2"),
    "bpf-volume": ("--mount", "type=volume,dst=/mnt,volume-opt=type=bpf,volume-opt=device=bpf"),
    "securityfs-volume": ("--mount", "type=volume,dst=/mnt,volume-opt=type=securityfs,volume-opt=device=securityfs"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.isolation(why="plain Docker mounts any file of the VM")
def test_form_is_refused(vm: Vm, canary: Canary, links: str, form: str) -> None:
    name = new_name("vol")
    words = [filled(word, canary, links).replace("type=volume,", f"type=volume,src={name},") for word in FORMS[form]]
    try:
        refused(vm, canary, words, match=DENIED if form in DOOR else RESTRICTED)
    finally:
        vm.docker("volume", "rm", "--force", name, check=False)


@pytest.mark.isolation(why="a named volume may be any directory of the VM in plain Docker")
def test_bind_backed_volume_is_refused_when_it_is_used(vm: Vm, canary: Canary) -> None:
    for options in (("-o", "type=none", "-o", "o=bind"), ("-o", "type=bind", "-o", "o=rbind,rw")):
        with volume(vm, *options, "-o", f"device={canary.folder}") as name:
            refused(vm, canary, ("-v", f"{name}:/mnt"))
            refused(vm, canary, ("--mount", f"type=volume,src={name},dst=/mnt,volume-nocopy"))


@pytest.mark.isolation(why="unmounting a volume of plain Docker takes away what is mounted below its source")
def test_recursive_bind_volume_takes_nothing_away_from_the_vm(vm: Vm, canary: Canary) -> None:
    """With `device=/` it would be /run and /var: the end of the machine, by one refused container."""
    inner = f"{canary.folder}/inner"
    vm.shell(f"mkdir {inner}; mount -t tmpfs tmpfs {inner}; echo kept >{inner}/file")
    try:
        name = new_name("vol")
        options = f"type=volume,src={name},dst=/mnt,volume-opt=type=none,volume-opt=o=rbind,volume-opt=device={canary.folder}"
        vm.docker("run", "--rm", "--mount", options, vm.image("busybox"), "true", check=False)
        vm.docker("volume", "rm", "--force", name, check=False)
        assert vm.shell(f"cat {inner}/file 2>/dev/null || echo gone").strip() == "kept"
    finally:
        vm.shell(f"umount {inner} || true; rm -r {inner}")


@pytest.mark.isolation(why="a part of a volume that is itself a bind is what it really is")
def test_part_of_a_bind_backed_volume_is_refused(vm: Vm, canary: Canary) -> None:
    with volume(vm, "-o", "type=none", "-o", "o=bind", "-o", "device=/run") as name:
        refused(vm, canary, ("--mount", f"type=volume,src={name},dst=/mnt,volume-subpath={canary.folder[5:]}"))


@pytest.mark.isolation(why="the mounts of another container are judged again")
def test_mounts_taken_from_another_container_are_refused(vm: Vm, canary: Canary) -> None:
    first = vm.name()
    vm.succeed("create", "--name", first, "-v", f"{canary.folder}:/mnt", vm.image("busybox"), "true")
    refused(vm, canary, ("--volumes-from", first))


@pytest.mark.isolation(why="what counts is what the path means when the container starts")
def test_source_that_becomes_a_link_after_create(vm: Vm, canary: Canary) -> None:
    with volume(vm) as name:
        swap = vm.name()
        with box(vm, "-v", f"{name}:/data") as owner:
            owner.sh("mkdir /data/part")
            command = ("sh", "-c", "echo hit >/mnt/canary")
            vm.succeed("create", "--name", swap, "-v", f"{VOLUMES}/{name}/_data/part:/mnt", vm.image("busybox"), *command)
            owner.sh(f"rmdir /data/part; ln -s {canary.folder} /data/part")
        vm.fail("start", "--attach", swap, match=RESTRICTED)
        canary.check()


@pytest.mark.isolation(why="files that dockerd injects into one container are none of another's")
def test_injected_files_of_another_container_are_refused(vm: Vm, canary: Canary) -> None:
    with box(vm) as other:
        hosts = other.inspect("{{.HostsPath}}")
        refused(vm, canary, ("-v", f"{hosts}:/mnt/hosts"))
        refused(vm, canary, ("-v", f"{hosts}:/etc/hosts"))


def test_refused_container_leaves_nothing_behind(vm: Vm, canary: Canary) -> None:
    before = vm.shell("grep -c . /proc/self/mountinfo; ls /run/containerd/io.containerd.runtime.v2.task/moby | wc -l")
    refused(vm, canary, ("-v", f"{canary.folder}:/mnt"))
    assert vm.shell("grep -c . /proc/self/mountinfo; ls /run/containerd/io.containerd.runtime.v2.task/moby | wc -l") == before


def test_files_can_still_be_copied_in_and_out(vm: Vm) -> None:
    """What a mount would have been for."""
    with box(vm) as made:
        vm.docker("cp", "-", f"{made.name}:/", input=packed({"given": (b"given\n", 0, 0, 0o644)}))
        assert made.sh("cat /given; stat -c %u:%g /given").split() == ["given", "0:0"]


# --- destinations


@pytest.mark.parametrize(
    ("destination", "match"),
    [
        pytest.param("/proc/x", "kernel view|inside /proc", id="below-proc"),
        pytest.param("/proc", "kernel view", id="proc"),
        pytest.param("/proc/sys/kernel", "kernel view|inside /proc", id="sysctl"),
        pytest.param("/proc/self/attr", "kernel view|inside /proc", id="self"),
        pytest.param("/sys", "kernel view", id="sys"),
        pytest.param("/sys/fs/cgroup", "kernel view", id="cgroup"),
        pytest.param("/sys/firmware", "kernel view", id="below-sys"),
        pytest.param("/dev", "kernel view", id="dev"),
        pytest.param("/x/../proc/x", "kernel view|inside /proc", id="dots"),
        pytest.param("/dev/data:ro", "would not stay read-only", id="read-only-in-dev"),
    ],
)
def test_destination_is_refused(vm: Vm, destination: str, match: str) -> None:
    with volume(vm) as name:
        vm.fail("run", "--rm", "-v", f"{name}:{destination}", vm.image("busybox"), "true", match=match)


@pytest.mark.parametrize("destination", ["/proc/x", "/proc", "/sys"])
def test_tmpfs_destination_is_refused(vm: Vm, destination: str) -> None:
    vm.fail("run", "--rm", "--tmpfs", destination, vm.image("busybox"), "true", match="can't mount|inside /proc")


def test_writable_volume_below_dev(vm: Vm) -> None:
    with volume(vm) as name:
        script = "echo x >/dev/data/x; stat -c %u:%g /dev/data/x; grep -c ' /dev/data ext4 rw,nosuid,nodev' /proc/mounts; ls /dev | grep -c null"
        assert vm.run("-v", f"{name}:/dev/data", command=("sh", "-ec", script)).split() == ["0:0", "1", "1"]


@pytest.mark.parametrize("link", ["/proc", "/sys", "/dev"])
def test_image_with_a_link_in_the_place_of_a_kernel_directory(vm: Vm, canary: Canary, link: str) -> None:
    """Either it does not start, or the link's target is a directory inside the container; the VM's is never touched."""
    image = f"cofferdam-test/{new_name('link')}"
    make = f"mkdir -p /t/bin; cp /bin/busybox /t/bin/; ln -s busybox /t/bin/sh; ln -s {canary.folder} /t{link}; tar -C /t -c . | base64"
    with box(vm) as maker:
        vm.succeed("import", "-", image, input=base64.b64decode(maker.sh(make)))
    try:
        vm.docker("run", "--rm", "--privileged", image, "/bin/sh", "-c", "busybox touch /proc/x /sys/x /dev/x; true", check=False)
        canary.check()
    finally:
        vm.docker("rmi", "--force", image, check=False)
