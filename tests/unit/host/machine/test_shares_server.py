"""The servers of shared directories, with the real virtiofsd: what they see, what they are apart from, and when they end."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cofferdam.cache import only_cached
from cofferdam.errors import HostError
from cofferdam.guestconfig import Share
from cofferdam.machine import api, launch
from cofferdam.machine.hostos import process_start, wait_until
from cofferdam.machine.instance import Instance, Record, ServedShare
from cofferdam.machine.ready import MachineEnded
from cofferdam.machine.shares import server
from cofferdam.machine.shares.program import apart, virtiofsd
from cofferdam.machine.shares.server import Server, ended, server_arguments, serving
from cofferdam.progress import Progress
from cofferdam.run import Process

PATIENCE = 60.0
NOBODY = 65534
NEEDED = {name: shutil.which(name) for name in ("unshare", "sh", "mount", "true")}
GET_FEATURES, VERSION = 1, 1


@dataclass
class Desk:
    """A home directory to share, with Cofferdam's own directories in it and virtiofsd in the cache; and who starts servers.

    Attributes:
        home: the directory.
        uid: who.
        program: the words that start virtiofsd.
        started: servers of this test.
    """

    home: Path
    uid: int
    program: list[str] = field(default_factory=list)
    started: list[Server] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    def owned(self) -> None:
        """Give everything to the user but the program, which is this machine's own."""
        for path in (self.home.parent, *self.home.parent.rglob("*")):
            if not path.is_relative_to(self.cache / "virtiofsd"):
                os.chown(path, self.uid, -1, follow_symlinks=False)

    def instance(self) -> Instance:
        made = Instance("box", self.state)
        made.create()
        self.owned()
        return made

    def share(self, name: str = "", tag: str = "share0", read_only: bool = False) -> Share:
        return Share(os.path.normpath(self.home / name), read_only, tag)

    def serve(self, *chosen: Share, instance: Instance | None = None) -> list[Server]:
        with serving(chosen or [self.share()], self.program, instance or self.instance()) as servers:
            self.started += servers
        return servers


def real_program() -> list[str]:
    if None in NEEDED.values():
        pytest.skip(f"not installed: {', '.join(name for name, path in NEEDED.items() if path is None)}")
    try:
        with only_cached():
            return virtiofsd(Progress(quiet=True))
    except HostError as error:
        pytest.skip(f"no virtiofsd without the network: {error}")


def linked(program: list[str], to: Path) -> list[str]:
    """The same program in another place of the same file system, readable for everybody."""
    top = os.path.commonpath([Path(word).parent for word in program if word.startswith("/")])
    if len(program) == 1:
        to.mkdir()
        shutil.copy(program[0], to)
    else:
        for name in ("lib", "libexec"):
            shutil.copytree(
                Path(top, name), to / name, symlinks=True, ignore=shutil.ignore_patterns("gconv"), copy_function=_link
            )
    return [word.replace(top, str(to)) for word in program]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.fixture(params=["us", "unprivileged"])
def desk(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    # Not below tmp_path, which is closed to other users.
    top = Path(tempfile.mkdtemp(prefix="shares-", dir="/tmp")).resolve()
    try:
        top.chmod(0o755)
        made = Desk(top / "home", os.getuid())
        for path in (made.state, made.cache, top / "run/cofferdam", top / "bin"):
            path.mkdir(parents=True)
        for name, program in NEEDED.items():
            (top / "bin" / name).symlink_to(program or "nowhere")
        monkeypatch.setenv("PATH", str(top / "bin"))
        words = real_program()
        if request.param == "unprivileged":
            become_nobody(monkeypatch, made)
        monkeypatch.setenv("COFFERDAM_STATE_HOME", str(made.state))
        monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(made.cache))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(top / "run"))
        made.program = linked(words, made.cache / "virtiofsd")
        (made.home / "file").write_text("shared")
        yield made
        for each in made.started:
            each.process.kill()
            each.process.wait()
    finally:
        shutil.rmtree(top)


def become_nobody(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    """From here on servers are started as a user without any right; nothing but who starts them is another."""
    if os.getuid() != 0:
        pytest.skip("the tests are run by an unprivileged user: the other cases are this one")
    identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    if subprocess.run([*apart(NOBODY), "true"], **identity, capture_output=True).returncode != 0:
        pytest.skip("this machine lets no user make user namespaces")

    def spawn(*words: object, **options: object) -> Process[bytes]:
        desk.owned()  # what has been made until now would have been made by the user
        return subprocess.Popen(*words, start_new_session=True, **identity, **options)

    desk.uid = NOBODY
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    monkeypatch.setattr(server, "spawn", spawn)


def connected(this: Server) -> socket.socket:
    """What QEMU does first: the answer comes from inside the sandbox."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(str(this.socket))
    client.sendall(struct.pack("<III", GET_FEATURES, VERSION, 0))
    answer = client.recv(20, socket.MSG_WAITALL)
    assert struct.unpack("<I", answer[:4]) == (GET_FEATURES,), answer
    return client


def inner(process: Process[bytes]) -> int:
    """The process that serves: virtiofsd's child, in namespaces of its own."""
    (pid,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(pid)


def gone(pid: int) -> bool:
    return wait_until(lambda: process_start(pid) is None, PATIENCE)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_a_server_is_apart_from_this_machine(desk):
    (this,) = desk.serve()
    with connected(this):
        pid = inner(this.process)
        own = {
            kind
            for kind in ("mnt", "pid", "net", "user")
            if os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
        }
        assert own == {"mnt", "pid", "net"} | ({"user"} if desk.uid else set())
        said = status(pid)
        assert said["Seccomp"] == "2"
        assert set(said["Uid"].split()) == {str(desk.uid)}
        fds = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
        assert not [name for name in fds if name.startswith(str(desk.cache))], "no way back into what is covered"
        assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_it_sees_its_directory_less_what_is_ours(desk):
    instance = desk.instance()
    (instance.directory / "key").write_text("secret")
    desk.owned()
    (this,) = desk.serve(instance=instance)
    with connected(this):
        root = Path(f"/proc/{inner(this.process)}/root")
        assert {path.name for path in root.iterdir()} == {"file", "state", "cache"}
        assert (root / "file").read_text() == "shared"
        for name in ("state", "cache"):
            assert list((root / name).iterdir()) == []
            with pytest.raises(OSError, match=r"Read-only file system|Permission denied"):
                (root / name / "new").touch()
        (desk.state / "later").touch()
        assert not (root / "state/later").exists()
    assert (instance.directory / "key").read_text() == "secret", "only the server's view has changed"


def test_a_directory_of_ours_that_is_not_there_yet_is_covered(desk, monkeypatch):
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", f"{desk.home}/deep/er/cache")
    (this,) = desk.serve()
    with connected(this):
        (desk.home / "deep/er/cache/image").touch()
        root = Path(f"/proc/{inner(this.process)}/root")
        assert list((root / "deep/er/cache").iterdir()) == []


def test_our_directories_in_one_another_are_covered(desk, monkeypatch):
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", f"{desk.state}/cache")
    (this,) = desk.serve()
    with connected(this):
        assert list(Path(f"/proc/{inner(this.process)}/root/state").iterdir()) == []


def test_a_share_that_is_a_link_is_the_directory_behind_it_with_ours_covered(desk):
    (desk.home / "data/state").mkdir(parents=True)
    (desk.home / "data/state/key").touch()
    (desk.home / "link").symlink_to("data")
    shutil.rmtree(desk.state)
    desk.state.symlink_to("data/state")
    (this,) = desk.serve(desk.share("link"))
    with connected(this):
        root = Path(f"/proc/{inner(this.process)}/root")
        assert [path.name for path in root.iterdir()] == ["state"]
        assert list((root / "state").iterdir()) == []
    assert (desk.home / "data/state/key").exists()


def test_each_share_has_a_server_that_sees_no_other(desk):
    for name in ("one", "two, and more"):
        (desk.home / name).mkdir()
        (desk.home / name / name).touch()
    servers = desk.serve(desk.share("one"), desk.share("two, and more", "share1", read_only=True))
    assert [each.socket.name.rpartition(".")[2] for each in servers] == ["share0", "share1"]
    for this in servers:
        assert this.socket.stat().st_mode & 0o777 == 0o600
        with connected(this):
            assert os.listdir(f"/proc/{inner(this.process)}/root") == [Path(this.share.path).name]
    served = [each.served for each in servers]
    assert [(each.path, each.read_only) for each in served] == [(f"{desk.home}/one", False), (f"{desk.home}/two, and more", True)]


def test_it_ends_with_its_connection(desk):
    instance = desk.instance()
    (this,) = desk.serve(instance=instance)
    client = connected(this)
    pid, served = inner(this.process), this.served
    record = Record(profile="p", accelerator="tcg", cpus=1, memory=1, docker_port=1, shares=[served])
    assert ended(record) == []
    assert api._dead_shares(instance, record) == []
    client.close()
    this.process.wait(PATIENCE)
    assert gone(pid)
    assert ended(record) == [str(desk.home)]
    (note,) = api._dead_shares(instance, record)
    assert note.startswith(f"the server of the shared directory {desk.home} has ended; ")
    assert "inv restart --name box" in note
    assert str(instance.shares_log) in note


def test_it_outlives_the_block_and_is_killed_when_the_block_fails(desk):
    instance = desk.instance()
    (kept,) = desk.serve(instance=instance)
    with pytest.raises(KeyboardInterrupt), serving([desk.share(tag="share1")], desk.program, instance) as servers:
        desk.started += servers
        connected(servers[0]).close()
        raise KeyboardInterrupt
    assert servers[0].process.returncode is not None, "it has been waited for"
    with connected(kept):
        pid = inner(kept.process)
        assert kept.process.poll() is None
    with pytest.raises(RuntimeError), serving([desk.share(tag="share2")], desk.program, instance) as servers:
        desk.started += servers
        with connected(servers[0]):
            pid = inner(servers[0].process)
            raise RuntimeError
    assert servers[0].process.returncode is not None
    assert gone(pid), "with what it has started"


def test_when_one_cannot_be_started_the_others_are_killed(desk, monkeypatch):
    spawned, spawn = [], server.spawn
    monkeypatch.setattr(server, "spawn", lambda *words, **options: spawned.append(spawn(*words, **options)) or spawned[-1])
    with (
        pytest.raises(OSError, match="No such file"),
        serving([desk.share(), desk.share(tag="no/socket")], desk.program, desk.instance()),
    ):
        pytest.fail("there is no directory for the second socket")
    (process,) = spawned
    assert process.returncode is not None


def test_clearing_an_instance_ends_the_server_that_nobody_connected_to(desk, record):
    instance = desk.instance()
    this, other = desk.serve(desk.share(), desk.share(tag="share1"), instance=instance)
    former = [other.served.model_copy(update={"process_start": start}) for start in ("1", None)]
    record.shares = [this.served, *former]
    instance.write_record(record)
    instance.clear()
    assert this.process.wait(PATIENCE) == -9
    assert other.process.poll() is None, "another process that has its pid by now is let alone"
    assert not this.socket.exists()
    assert not other.socket.exists()
    assert instance.record is None


def test_a_server_that_had_ended_before_it_could_be_asked_has_ended(record):
    record.shares = [ServedShare(path="/x", read_only=False, pid=2**22 + 1, process_start=None)]
    assert ended(record) == ["/x"]


@pytest.fixture
def launched(instance, record):
    """A launch whose server has told why it ended, and a QEMU that has ended for want of it."""
    process = subprocess.Popen([NEEDED["sh"] or "/bin/sh", "-c", "exit 1"])
    process.wait()
    record.shares = [ServedShare(path="/home/a", read_only=False, pid=process.pid, process_start="1")]
    instance.shares_log.write_text("mount: permission denied\n")
    instance.qemu_log.write_text("qemu: cannot connect\n")
    facts = dict.fromkeys(("settings", "image", "facts", "credentials", "policy", "progress"))
    return launch.Launch(instance=instance, **facts), record, process


def test_a_boot_that_failed_for_want_of_a_server_tells_the_servers_words(launched):
    error = launch._start_failure(*launched)
    assert isinstance(error, MachineEnded)
    assert str(error) == "the server of the shared directory /home/a ended\n    mount: permission denied"
    assert "--share none" in error.hint
    assert error.log == launched[0].instance.shares_log
    launched[1].shares = []
    assert "qemu: cannot connect" in str(launch._start_failure(*launched))


# --- the command


@pytest.mark.parametrize("uid", [0, 1000])
def test_the_command(uid):
    words = server_arguments(Share("/srv/x"), ["./virtiofsd"], 7, [Path("/srv/x/state"), Path("/srv/x/a b")], uid=uid)
    start = words.index("sh")
    assert words[:start] == apart(uid)
    assert words[start + 3 : words.index("./virtiofsd")] == ["sh", "/srv/x/state", "/srv/x/a b", "--"]
    options = words[words.index("./virtiofsd") + 1 :]
    assert {"--fd=7", "--shared-dir=/srv/x", "--sandbox=namespace", "--no-announce-submounts"} <= set(options)
    assert {f"--translate-{kind}=squash-guest:0:0:4294967295" for kind in ("uid", "gid")} <= set(options)
    assert "--readonly" not in options
    assert ("--inode-file-handles=prefer" in options) == ("--modcaps=+dac_read_search" in options) == (uid == 0)
    assert "--readonly" in server_arguments(Share("/srv/x", read_only=True), ["./virtiofsd"], 7, [], uid=uid)
