"""Shared directories from both sides: files are the user's here and the container's user's there, and nobody gets out of the share."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmtest.flows import box, new_name, shifted_base, wait_until
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

US = (os.getuid(), os.getgid())


@pytest.fixture
def shared(vm: Vm) -> Iterator[Path]:
    """A new directory in the VM's share, on this machine."""
    assert vm.share is not None
    path = vm.share / new_name("dir")
    path.mkdir()
    yield path
    shutil.rmtree(path)


def python(vm: Vm, shared: Path, script: str, *options: str) -> Any:
    """Run a script in a container that has the directory as /share; what it printed as JSON."""
    words = ("python3", "-c", script)
    return json.loads(vm.run("-v", f"{shared}:/share", "-w", "/share", *options, image="debian", command=words))


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


@pytest.mark.parametrize("user", ["0:0", "1000:1000", "1234:77"])
def test_files_belong_to_the_user_on_both_sides(vm: Vm, shared: Path, user: str) -> None:
    """Made here, seen there as the container's user's; made there, seen here as ours; and changed by both."""
    (shared / "ours").write_text("from here")
    (shared / "ours").chmod(0o600)
    shared.chmod(0o755)
    script = """
    cat /share/ours; stat -c ' %u:%g %a' /share/ours /share
    echo there >/share/theirs; mkdir /share/deep; echo more >>/share/ours; chmod 640 /share/ours
    stat -c '%u:%g' /share/theirs /share/deep; cat /proc/self/uid_map
    """
    said = vm.run("-v", f"{shared}:/share", "--user", user, command=("sh", "-ec", script)).split("\n")
    assert said[0] == f"from here {user} 600"
    assert said[1].split() == [user, "755"]
    assert said[2:4] == [user, user]
    shifted_base(said[4])
    assert {name: owner(shared / name) for name in ("ours", "theirs", "deep")} == dict.fromkeys(("ours", "theirs", "deep"), US)
    assert (shared / "ours").read_text() == "from heremore\n"
    assert stat.S_IMODE((shared / "ours").stat().st_mode) == 0o640


def test_root_and_another_user_of_one_container_both_write(vm: Vm, shared: Path) -> None:
    with box(vm, "-v", f"{shared}:/share", "--user", "1000") as made:
        made.sh("echo a >/share/user")
        made.sh("echo b >/share/root; cat /share/user", "--user", "0")
    assert {path.name: owner(path) for path in shared.iterdir()} == {"user": US, "root": US}


FILES = """
import fcntl, json, mmap, os, stat
said = {}
os.mkdir("dir"); open("dir/file", "w").write("x")
os.symlink("dir/file", "link"); os.link("dir/file", "hard"); os.rename("dir", "moved")
said["hard"] = [os.stat("hard").st_nlink, os.stat("hard").st_ino == os.stat("moved/file").st_ino]
said["dangling"] = not os.path.exists("link")
os.replace("hard", "moved/file2")
open("target", "w").write("old"); open("new", "w").write("new"); os.replace("new", "target")
said["replaced"] = open("target").read()
held = open("held", "w+"); held.write("still there"); held.flush(); os.unlink("held"); held.seek(0)
said["unlinked"] = held.read()
with open("map", "w+b") as file:
    file.truncate(8192)
    view = mmap.mmap(file.fileno(), 8192); view[4096:4101] = b"mmap!"; view.flush(); view.close()
with open("sparse", "wb") as file:
    file.seek(64 << 20); file.write(b"end")
os.truncate("sparse", (64 << 20) + 1)
os.utime("target", (1000, 2000)); os.chmod("target", 0o4755)
said["mode"] = oct(stat.S_IMODE(os.stat("target").st_mode))
names = ["é", "e\\u0301", "日本 語", "a b\\tc", "-rf", "x" * 255, "\\U0001f40b"]
for name in names: open(name, "w").write(name)
said["names"] = sorted(set(os.listdir(".")) & set(names)) == sorted(names)
deep = "d/" * 200; os.makedirs(deep); open(deep + "end", "w").write("deep")
os.mkfifo("fifo")
try: os.mknod("node", stat.S_IFCHR | 0o666, os.makedev(1, 3))
except OSError as error: said["node"] = error.errno
try: os.open("x" * 256, os.O_CREAT)
except OSError as error: said["long"] = error.errno
with open("append", "a") as file: file.write("1"); file.flush(); os.fsync(file.fileno())
fd = os.open("direct", os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.pwrite(fd, b"abc", 5); said["pread"] = os.pread(fd, 8, 0).hex(); os.close(fd)
print(json.dumps(said))
"""


def test_what_programs_do_with_files(vm: Vm, shared: Path) -> None:
    said = python(vm, shared, FILES)
    assert said == {
        "hard": [2, True],
        "dangling": True,
        "replaced": "new",
        "unlinked": "still there",
        "mode": said["mode"],
        "names": True,
        "node": 1,
        "long": 36,
        "pread": "0000000000616263",
    }
    assert (shared / "moved/file").samefile(shared / "moved/file2")
    assert os.readlink(shared / "link") == "dir/file"
    assert (shared / "map").read_bytes()[4096:4101] == b"mmap!"
    assert ((shared / "sparse").stat().st_size, (shared / "sparse").stat().st_blocks < 64) == ((64 << 20) + 1, True)
    assert (shared / "target").stat().st_mtime == 2000
    assert (shared / "日本 語").read_text() == "日本 語"
    assert (shared / ("d/" * 200) / "end").read_text() == "deep"
    assert stat.S_ISFIFO((shared / "fifo").stat().st_mode)
    assert not (shared / "held").exists() and not (shared / "node").exists()


def test_what_is_written_here_is_seen_there_and_back(vm: Vm, shared: Path) -> None:
    """Without a restart of anything: a change, a new file, a removed one; and the contents are whole."""
    data = os.urandom(8 << 20)
    (shared / "big").write_bytes(data)
    with box(vm, "-v", f"{shared}:/share") as made:
        assert made.sh("sha256sum /share/big").split()[0] == hashlib.sha256(data).hexdigest()
        (shared / "big").write_bytes(data[::-1])
        (shared / "new").write_text("1")
        wait_until(
            lambda: made.sh("sha256sum /share/big").split()[0] == hashlib.sha256(data[::-1]).hexdigest(), "the change is seen"
        )
        wait_until(lambda: made.sh("ls /share").split() == ["big", "new"], "the new file is seen")
        (shared / "new").unlink()
        wait_until(lambda: made.sh("ls /share").split() == ["big"], "the file is gone")
        made.sh("dd if=/dev/urandom of=/share/there bs=1M count=4 2>/dev/null; sha256sum /share/there >/share/sum")
    assert (shared / "sum").read_text().split()[0] == hashlib.sha256((shared / "there").read_bytes()).hexdigest()


HOLD = (
    "import fcntl, sys, time; f = open('lock', 'w'); fcntl.{call}(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
)
TRY = """
import fcntl, json
f = open("lock", "w")
try: fcntl.{call}(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print("true")
except OSError: print("false")
"""


@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_locks_hold_between_containers(vm: Vm, shared: Path, call: str) -> None:
    with box(
        vm, "-v", f"{shared}:/share", "-w", "/share", "-i", image="debian", command=("python3", "-c", HOLD.format(call=call))
    ) as made:
        wait_until(lambda: "held" in vm.succeed("logs", made.name), "the lock is held")
        assert python(vm, shared, TRY.format(call=call)) is False
    assert python(vm, shared, TRY.format(call=call)) is True


def test_a_socket_connects_two_containers_and_not_the_desktop(vm: Vm, shared: Path) -> None:
    """As on Linux, but for the border: a socket's other end is in the kernel that made it."""
    serve = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('sock'); s.listen(); c, _ = s.accept(); c.sendall(b'hello')"
    ask = "import json, socket; s = socket.socket(socket.AF_UNIX); s.connect('sock'); print(json.dumps(s.recv(9).decode()))"
    with box(vm, "-v", f"{shared}:/share", "-w", "/share", image="debian", command=("python3", "-c", serve)):
        wait_until((shared / "sock").exists, "the socket is there")
        assert stat.S_ISSOCK((shared / "sock").lstat().st_mode)
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            os.chdir(shared)
            try:
                client.connect("sock")
            finally:
                os.chdir("/")
        assert python(vm, shared, ask) == "hello"


def test_a_missing_source_is_made_as_docker_does(vm: Vm, shared: Path) -> None:
    vm.run("-v", f"{shared}/new/er:/x", command=("touch", "/x/file"))
    assert owner(shared / "new/er/file") == US
    vm.fail(
        "run",
        "--rm",
        "--mount",
        f"type=bind,src={shared}/no,dst=/x",
        vm.image("busybox"),
        "true",
        match="bind source path does not exist",
    )
    assert not (shared / "no").exists()


def test_a_single_file_and_a_subdirectory(vm: Vm, shared: Path) -> None:
    (shared / "sub").mkdir()
    (shared / "sub/conf").write_text("one")
    said = vm.run(
        "-v",
        f"{shared}/sub/conf:/etc/conf",
        "-v",
        f"{shared}/sub:/sub:ro",
        command=("sh", "-ec", "cat /etc/conf; echo two >/etc/conf; cat /sub/conf"),
    )
    assert said == "onetwo\n"
    assert (shared / "sub/conf").read_text() == "two\n"


def test_read_only_stays_read_only(vm: Vm, shared: Path) -> None:
    (shared / "file").write_text("kept")
    script = "for how in '' bind,; do mount -o remount,${how}rw /share 2>&1; done; echo x >/share/file || echo x >/share/new || mkdir /share/d || echo refused"
    assert "refused" in vm.run("--privileged", "-v", f"{shared}:/share:ro", image="debian", command=("sh", "-c", script))
    assert [path.name for path in shared.iterdir()] == ["file"]
    assert (shared / "file").read_text() == "kept"


def test_compose_with_a_relative_path(vm: Vm, shared: Path) -> None:
    project = {
        "services": {
            "one": {"image": vm.image("busybox"), "command": ["sh", "-c", "cat /src/in >/src/out"], "volumes": ["./src:/src"]}
        }
    }
    (shared / "src").mkdir()
    (shared / "src/in").write_text("composed")
    (shared / "compose.yaml").write_text(json.dumps(project))
    name = new_name("project")
    try:
        vm.succeed("compose", "--project-name", name, "--file", shared / "compose.yaml", "up", "--abort-on-container-exit")
    finally:
        vm.docker("compose", "--project-name", name, "--file", shared / "compose.yaml", "down", check=False)
    assert (shared / "src/out").read_text() == "composed"


# --- nobody gets out


@pytest.fixture
def canary(vm: Vm) -> Iterator[Path]:
    """A file of this machine beside the share."""
    assert vm.share is not None
    path = vm.share.parent / f"canary-{uuid.uuid4().hex}"
    path.write_text(path.name)
    yield path
    assert path.read_text() == path.name, "nobody wrote it"
    path.unlink()


def test_what_is_not_shared_is_refused_with_the_next_step(vm: Vm, shared: Path, canary: Path) -> None:
    for path in (canary, canary.parent, shared.parent.parent, Path("/root"), Path("/home/nobody/x")):
        said = vm.fail("run", "--rm", "-v", f"{path}:/x", vm.image("busybox"), "ls", "/x", match="is not shared from the host")
        assert f"inv boot --share {path}" in said


def test_links_out_of_the_share_lead_nowhere(vm: Vm, shared: Path, canary: Path) -> None:
    (shared / "up").symlink_to("../" * 30 + str(canary.parent).lstrip("/"))
    (shared / "absolute").symlink_to(canary)
    (shared / "etc").symlink_to("/etc")
    (shared / "socket").symlink_to("/var/run/docker.sock")
    script = f"cat /share/up/{canary.name} /share/absolute || echo nothing; ls /share/etc | grep -c '^passwd$'; cat /share/../../..{canary} || echo nothing"
    assert vm.run("-v", f"{shared}:/share", command=("sh", "-c", f"({script}) 2>/dev/null")).split() == [
        "nothing",
        "1",
        "nothing",
    ]
    for name in ("up", "absolute", "etc", "socket"):
        vm.fail(
            "run",
            "--rm",
            "-v",
            f"{shared}/{name}:/x",
            vm.image("busybox"),
            "true",
            match="not shared from the host|restricted host mount|socket mount denied",
        )


SWAP = """
import json, os, threading, time
os.makedirs("real"); open("real/canary", "w").write("inside")
os.symlink(OUT, "link")
stop, seen = time.monotonic() + 20, set()
def swap():
    while time.monotonic() < stop:
        for pair in (("real", "kept"), ("link", "real"), ("real", "link"), ("kept", "real")):
            os.rename(*pair)
worker = threading.Thread(target=swap); worker.start()
while worker.is_alive():
    for path in ("real/" + NAME, "real/canary", "link/" + NAME):
        for flags in (os.O_RDONLY, os.O_RDWR):
            try:
                fd = os.open(path, flags); seen.add(os.read(fd, 100).decode()); os.close(fd)
            except OSError: pass
print(json.dumps(sorted(seen)))
"""


def test_a_directory_that_changes_places_with_a_link_shows_nothing_else(vm: Vm, shared: Path, canary: Path) -> None:
    """The server follows no link of its own, whenever it is put in the way."""
    script = SWAP.replace("OUT", repr("../" * 30 + str(canary.parent).lstrip("/"))).replace("NAME", repr(canary.name))
    assert set(python(vm, shared, script)) <= {"inside"}


def test_setuid_files_and_devices_of_a_share_are_only_files(vm: Vm, shared: Path) -> None:
    if os.geteuid() == 0:
        os.mknod(shared / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    script = """
    cp /bin/busybox /share/busybox; chmod 6755 /share/busybox
    cat /share/zero 2>&1 | head -c 400; mknod /share/node c 1 3 2>&1 || echo no node
    """
    said = vm.run("--privileged", "-v", f"{shared}:/share", "--user", "0", command=("sh", "-c", script))
    assert "no node" in said
    assert "denied" in said or os.geteuid() != 0
    made = vm.run("-v", f"{shared}:/share", "--user", "4321", command=("/share/busybox", "grep", "Uid", "/proc/self/status"))
    assert made.split() == ["Uid:", *["4321"] * 4], "the program of another user gives nobody that user"
    assert not (shared / "node").exists()


def test_the_share_cannot_be_mounted_anew(vm: Vm, shared: Path) -> None:
    """By its tag, by a container with every privilege."""
    vm.fail(
        "run",
        "--rm",
        "--privileged",
        vm.image("debian"),
        "mount",
        "-t",
        "virtiofs",
        "share0",
        "/mnt",
        match="permission denied|not permitted|wrong fs type|unknown filesystem",
    )


def test_mounts_of_a_container_stay_its_own(vm: Vm, shared: Path) -> None:
    script = "mkdir /share/over && mount -t tmpfs none /share/over && touch /share/over/hidden && sleep 100000"
    words = ("--privileged", "-v", f"{shared}:/share:rshared", vm.image("busybox"), "true")
    vm.fail("run", "--rm", *words, match="not a shared mount")
    with box(vm, "--privileged", "-v", f"{shared}:/share", command=("sh", "-c", script)) as made:
        wait_until(lambda: "/share/over" in made.sh("cat /proc/mounts"), "it is mounted")
        assert vm.run("-v", f"{shared}:/share", command=("ls", "/share/over")) == ""
        assert list((shared / "over").iterdir()) == []
        assert str(shared) not in vm.shell("cat /proc/mounts").replace(f" {vm.share} ", " ")


def test_the_server_runs_apart_from_this_machine(vm: Vm) -> None:
    """Its root is the share, its processes and network are its own, and it has no way to gain anything."""
    record = vm.record.record
    assert record is not None
    (served,) = record.shares
    found = subprocess.run(["pgrep", "-P", str(served.pid)], capture_output=True, text=True).stdout.split()
    pid = int(found[0]) if found else served.pid
    for kind in ("mnt", "pid", "net"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert int(status["Seccomp"]) == 2
    assert {path.name for path in Path(f"/proc/{pid}/root").iterdir()} == {path.name for path in Path(served.path).iterdir()}
