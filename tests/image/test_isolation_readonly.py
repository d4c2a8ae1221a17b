"""What was mounted read-only stays so whatever a container with every privilege tries, and its own mounts inside are free and its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from vmtest.flows import FIRST, Box, box, new_name, volume
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

VOLUMES = "/var/lib/docker/volumes"


@pytest.mark.isolation(why="a container that may mount makes any mount of its own writable")
def test_remount_with_the_documented_words(vm: Vm) -> None:
    with volume(vm) as name, box(vm, "--cap-add", "SYS_ADMIN", "-v", f"{name}:/mnt:ro") as made:
        message = made.refuses("mount -o remount,rw /mnt /mnt", match="mount")
        assert "mount: permission denied (are you root?)" in message
        made.refuses("echo x >/mnt/x", match="Read-only file system")


SYSCALLS = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *words):
    done = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(each) if isinstance(each, int) else each for each in words))
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done
def set_attributes(fd, path, flags, clear):
    call(442, fd, path, flags, struct.pack("=QQQQ", 0, clear, 0, 0), 32)
way = sys.argv[1]
where = sys.argv[2].encode()
if way == "mount_setattr":
    set_attributes(-100, where, 0, 1)
elif way == "mount_setattr-recursive":
    set_attributes(-100, where, 0x8000, 1)
elif way in ("open_tree", "open_tree-recursive"):
    tree = call(428, -100, where, 1 | (0x8000 if way.endswith("recursive") else 0))
    set_attributes(tree, b"", 0x1000, 1)
    os.makedirs("/tree", exist_ok=True)
    call(429, tree, b"", -100, b"/tree", 4)
elif way == "fspick":
    context = call(433, -100, where, 0)
    call(431, context, 0, b"rw", None, 0)
    call(431, context, 7, None, None, 0)
elif way == "idmap":
    child = os.fork()
    if child == 0:
        os.unshare(os.CLONE_NEWUSER)
        os.execlp("sleep", "sleep", "30")
    while os.readlink(f"/proc/{child}/ns/user") == os.readlink("/proc/self/ns/user"):
        pass
    tree = call(428, -100, where, 1)
    call(442, tree, b"", 0x1000, struct.pack("=QQQQ", 0x100000, 1, 0, os.open(f"/proc/{child}/ns/user", os.O_RDONLY)), 32)
"""

SCRIPT = "python3 - {way} @ <<'END'\n" + SYSCALLS + "\nEND\nwrite @; write /tree"

# way: a script that must not be able to make @ writable; `write` tries to
REMOUNTS = {
    "remount": "mount -o remount,rw @; write @",
    "remount-bind": "mount -o remount,bind,rw @; write @",
    "bind-elsewhere": "mkdir -p /b; mount --bind @ /b; mount -o remount,bind,rw /b; write /b",
    "bind-recursively": "mkdir -p /r; mount --rbind @ /r; mount -o remount,bind,rw /r; write /r",
    "bind-of-the-parent": "mkdir -p /p; mount --rbind / /p; mount -o remount,bind,rw /p@; write /p@",
    "new-mount-namespace": "unshare --mount sh -c 'mount -o remount,bind,rw @; echo changed >@/canary'",
    "chroot": "mkdir -p /c; mount --rbind / /c; chroot /c sh -c 'mount -o remount,bind,rw @; echo changed >@/canary'",
    "pivot": "unshare --mount sh -c 'mkdir -p /v; mount --rbind / /v; cd /v; mkdir -p old; pivot_root . old; mount -o remount,bind,rw @; echo changed >@/canary'",
    "move": "mkdir -p /m; mount --move @ /m; mount -o remount,bind,rw /m; write /m",
    "through-init": "mount -o remount,bind,rw /proc/1/root@; write /proc/1/root@",
    "by-descriptor": "cd @; mount -o remount,bind,rw .; write .",
    "join-itself": "nsenter --target 1 --mount mount -o remount,bind,rw @; write @",
    **{
        way: SCRIPT.replace("{way}", way)
        for way in ("mount_setattr", "mount_setattr-recursive", "open_tree", "open_tree-recursive")
    },
}
# ways that lead nowhere in plain Docker either, for reasons of the kernel's
NESTED = "unshare --user --map-root-user --mount sh -c"
HOPELESS = {
    "nested-user-namespace": f"{NESTED} 'mount -o remount,bind,rw @; echo changed >@/canary'",
    "nested-bind": f"{NESTED} 'mkdir -p /n; mount --bind @ /n; mount -o remount,bind,rw /n; echo changed >/n/canary'",
    "overlay": "mkdir -p /o; mount -t overlay overlay -o lowerdir=/bin,upperdir=@,workdir=@/in /o; echo changed >/o/canary",
    "fspick": SCRIPT.replace("{way}", "fspick"),
    "idmap": SCRIPT.replace("{way}", "idmap"),
}
# way: a script that must not show what is below @
REVEALS = {
    "umount-in-a-new-namespace": "unshare --mount sh -c 'umount -l @; cat @/below'",
    "bind-of-the-root-alone": "mkdir -p /q; mount --bind / /q; cat /q@/below",
    "bind-of-the-parent-alone": "mkdir -p /q; mount --bind /srv /q; cat /q/covered/below",
    "umount": "umount @; umount -l @; umount -f @; cat @/below",
}
CLEAN = "; for p in /tree /q /o /c /p /r /b; do umount -l $p 2>/dev/null; done"
THEN = "--- and then"
WRITE = "write() { echo changed >$1/canary; }\n"
PLACES = {"volume": "/data", "mount": "/mounted", "bind": "/bound", "tmpfs": "/scratch", "nested": "/data/in/it"}


@dataclass(frozen=True)
class Reader:
    """A privileged container with one volume mounted read-only in several ways, and another way to see the volume."""

    made: Box
    volume: str

    def content(self) -> str:
        return self.made.vm.shell(f"cat {VOLUMES}/{self.volume}/_data/canary").strip()

    def attempt(self, script: str, place: str) -> str:
        text = WRITE + script.replace("@", place)
        return self.made.vm.docker("exec", self.made.name, "sh", "-c", f"({text}\n) 2>&1{CLEAN}", check=False).stdout

    def stays(self, script: str, place: str) -> None:
        """After the attempt the file is as it was, and cannot be written: one `docker exec` for both, an emulated one takes a second."""
        said = self.attempt(f"{script}\n) 2>&1; (echo {THEN}; echo changed >@/canary", place)
        assert self.content() == "kept", said
        assert "Read-only file system" in said.partition(THEN)[2], said


@pytest.fixture(scope="module")
def reader(vm: Vm) -> Iterator[Reader]:
    image = f"cofferdam-test/{new_name('covered')}"
    with box(vm, image="debian") as maker:
        maker.sh("mkdir -p /srv/covered; echo revealed >/srv/covered/below")
        vm.succeed("commit", maker.name, image)
    with ExitStack() as stack:
        stack.callback(vm.docker, "rmi", "--force", image, check=False)
        name, inner = stack.enter_context(volume(vm)), stack.enter_context(volume(vm))
        vm.run(
            "-v", f"{name}:/data", "-v", f"{inner}:/inner", command=("sh", "-ec", "echo kept >/data/canary; mkdir -p /data/in/it")
        )
        options = (
            *("-v", f"{name}:/data:ro", "-v", f"{name}:/data/in/it:ro", "-v", f"{name}:/srv/covered:ro"),
            *("--mount", f"type=volume,source={name},destination=/mounted,readonly"),
            *("--mount", f"type=bind,source={VOLUMES}/{name}/_data,destination=/bound,readonly"),
            *("--tmpfs", "/scratch:ro"),
        )
        yield Reader(stack.enter_context(box(vm, "--privileged", *options, image=image)), name)


@pytest.mark.parametrize("place", ["volume", "bind"])
@pytest.mark.parametrize("way", REMOUNTS)
@pytest.mark.isolation(why="a privileged container of plain Docker makes any mount of its own writable")
def test_read_only_mount_cannot_become_writable(reader: Reader, way: str, place: str) -> None:
    path = PLACES[place]
    try:
        reader.stays(REMOUNTS[way], path)
    finally:
        if not reader.made.vm.isolated:
            put_back(reader, path)


def put_back(reader: Reader, path: str) -> None:
    """On the control the way led to a writable mount: make the next row independent of it."""
    vm, name = reader.made.vm, reader.made.name
    vm.shell(f"echo kept >{VOLUMES}/{reader.volume}/_data/canary")
    vm.succeed("exec", name, "sh", "-c", f"mountpoint -q {path} || mount --move /m {path}; mount -o remount,bind,ro {path}")


@pytest.mark.parametrize("way", HOPELESS)
def test_read_only_mount_cannot_become_writable_either(reader: Reader, way: str) -> None:
    reader.stays(HOPELESS[way], "/data")


@pytest.mark.parametrize("place", ["mount", "nested", "tmpfs"])
@pytest.mark.isolation(why="every way to ask for read-only is locked")
def test_read_only_holds_for_every_kind_of_mount(reader: Reader, place: str) -> None:
    path = PLACES[place]
    steps = (f"mount -o remount,bind,rw {path}", f"mount -o remount,bind,rw /b-{place}", f"echo changed >{path}/canary")
    script = f"mkdir -p /b-{place}; mount --bind {path} /b-{place}; " + "; ".join(f"{step} && echo went" for step in steps)
    said = reader.made.sh(f"({script}) 2>&1 || :")
    assert "went" not in said, said
    assert len(re.findall("permission denied|not permitted", said)) == 2, said
    assert "Read-only file system" in said, said


@pytest.mark.parametrize("way", REVEALS)
@pytest.mark.isolation(why="a privileged container of plain Docker takes a mount away and sees what it covers")
def test_mount_cannot_be_taken_away(reader: Reader, way: str) -> None:
    said = reader.attempt(REVEALS[way], "/srv/covered")
    assert "revealed" not in said
    assert reader.made.sh("cat /srv/covered/canary") == "kept"


@pytest.mark.isolation(why="what the user asked to be read-only is so for a privileged exec too")
def test_privileged_exec_cannot_remount(vm: Vm) -> None:
    options = ("--security-opt", "seccomp=unconfined")
    with volume(vm) as name, box(vm, *options, "-v", f"{name}:/data:ro", image="debian") as made:
        made.refuses(
            "mount -o remount,bind,rw /data && touch /data/x",
            "--privileged",
            match="permission denied|not permitted|must be superuser",
        )
        made.refuses("touch /data/x", "--privileged", match="Read-only file system")


@pytest.mark.isolation(why="a read-only root is as locked as a read-only volume")
def test_read_only_root_cannot_become_writable(vm: Vm) -> None:
    with box(vm, "--privileged", "--read-only", "--tmpfs", "/scratch", image="debian") as made:
        for script in (
            "mount -o remount,rw / || :; mount -o remount,bind,rw / || :; echo x >/x",
            "mkdir /scratch/b; mount --rbind / /scratch/b; mount -o remount,bind,rw /scratch/b || :; echo x >/scratch/b/x",
            "unshare --mount sh -c 'mount -o remount,bind,rw /; echo x >/x'",
        ):
            made.refuses(script, match="Read-only file system|permission denied")
        assert "A /x" not in vm.succeed("diff", made.name).split("\n")


@pytest.mark.isolation(
    why="files with special rights or devices that a container leaves in a volume must be inert for all others"
)
def test_volumes_are_mounted_without_devices_and_setuid(vm: Vm) -> None:
    with volume(vm) as name, box(vm, "--privileged", "-v", f"{name}:/data", image="debian") as made:
        flags = made.sh("findmnt -n -o VFS-OPTIONS /data").split(",")
        assert {"nosuid", "nodev"} <= set(flags), flags
        made.refuses("mount -o remount,bind,suid,dev /data", match="permission denied|not permitted")
        made.refuses("chown 70000 /data", match="Invalid argument")


# --- mounts made inside


@pytest.mark.isolation(why="plain Docker's container shows no ids: it is root of the VM")
def test_tmpfs_inside_as_documented(vm: Vm) -> None:
    with box(vm, "--cap-add", "SYS_ADMIN", image="debian") as made:
        base = made.base
        made.sh("mkdir /root/tmpfs && mount -t tmpfs tmpfs /root/tmpfs")
        for way in ("ro", "rw"):
            made.sh(f"mount -o remount,{way} /root/tmpfs /root/tmpfs")
            row = made.sh("findmnt | grep /root/tmpfs").split()
            assert row[0].endswith("/root/tmpfs")
            assert row[1:3] == ["tmpfs", "tmpfs"]
            assert re.fullmatch(rf"{way},relatime(,\w+)*?,uid={base},gid={base}(,\w+)*", row[3]), row[3]
            assert base >= FIRST
        made.sh(
            "echo x >/root/tmpfs/x; chown 1000:1000 /root/tmpfs/x; test $(stat -c %u /root/tmpfs/x) = 1000; umount /root/tmpfs; rmdir /root/tmpfs"
        )


# remount with two words: with one, util-linux repeats the `uid=` that the kernel shows, a number that means nothing inside
INSIDE = {
    "tmpfs": "mount -t tmpfs tmpfs /m && echo x >/m/x && mount -o remount,ro /m /m && ! touch /m/y && mount -o remount,rw /m /m && touch /m/y",
    "bind": "mkdir /m/a && echo x >/m/a/x && mount --bind /m/a /n && cat /n/x && mount -o remount,bind,ro /n && ! touch /n/y && mount -o remount,bind,rw /n && touch /n/y",
    "bind-of-a-file": "echo new >/m/new && mount --bind /m/new /etc/hostname && grep new /etc/hostname && umount /etc/hostname",
    "bind-of-a-volume": "mount --bind /data /n && echo x >/n/x && cat /data/x && mount -o remount,bind,ro /n && ! touch /n/y && mount -o remount,bind,rw /n && touch /n/y",
    "overlay": "mount -t tmpfs tmpfs /m && mkdir /m/l /m/u /m/w && echo l >/m/l/f && mount -t overlay overlay -o lowerdir=/m/l,upperdir=/m/u,workdir=/m/w /n "
    "&& echo u >/n/f && rm /n/f && touch /n/g && test -c /m/u/f",
    "proc": "mount -t proc proc /n && test -e /n/1/status && test -e /n/sys/kernel/hostname",
    "sysfs": "mount -t sysfs sysfs /n && test -d /n/class/net/lo",
    "mqueue": "mount -t mqueue mqueue /n && touch /n/q && rm /n/q",
    "devpts": "mount -t devpts -o newinstance devpts /n && test -c /n/ptmx",
    "cgroup2": "mount -t cgroup2 cgroup2 /n && mkdir /n/sub && rmdir /n/sub",
    "moved": "mount -t tmpfs tmpfs /m && touch /m/x && mount --move /m /n && test -e /n/x",
    "propagation": "mount -t tmpfs tmpfs /m && mount --make-shared /m && mkdir /m/s && mount --bind /m /n && mount -t tmpfs tmpfs /m/s && touch /m/s/x && test -e /n/s/x",
    "new-namespace": "unshare --mount --propagation private sh -ec 'mount -t tmpfs tmpfs /n; touch /n/x' && ! test -e /n/x",
}


@pytest.fixture(scope="module")
def mounter(vm: Vm) -> Iterator[Box]:
    with volume(vm) as name, box(vm, "--privileged", "-v", f"{name}:/data", image="debian") as made:
        yield made


@pytest.mark.parametrize("kind", INSIDE)
@pytest.mark.both
def test_own_mounts_are_free_and_stay_inside(vm: Vm, mounter: Box, kind: str) -> None:
    before = vm.shell("cat /proc/1/mountinfo")
    try:
        mounter.sh(f"mkdir -p /m /n; cd /; {INSIDE[kind]}")
        assert vm.shell("cat /proc/1/mountinfo") == before
    finally:
        mounter.sh("for p in /n/s /m/s /n /m; do umount -l $p || :; umount -l $p || :; done 2>/dev/null; rm -rf /m /n")
