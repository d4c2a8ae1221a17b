"""Docker's socket on the desktop: the real keeper process and QEMU, real TLS; and where a socket may be at all."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine import api, launch
from cofferdam.machine.credentials import ensure_credentials
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.instance import Instance
from cofferdam.machine.ports import socketplace
from cofferdam.machine.ports.socketplace import check_place, is_live, remove_stale, require_free
from cofferdam.machine.ports.start import ensure_keeper
from cofferdam.progress import Progress
from servers.tlsdoor import BLOCK, TlsDoor
from unit.host.machine import test_lifecycle as lifecycle
from unit.host.machine.conftest import keeper_pid
from unit.host.machine.test_lifecycle import Image

host = lifecycle.host
PATIENCE = 120.0
DOCKER = Path("/usr/local/bin/docker")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a loaded machine a Python process may take long to be at work.
    monkeypatch.setattr("cofferdam.machine.ports.start._SECONDS", 4 * PATIENCE)


@pytest.fixture
def path(home: Path) -> Path:
    """A place for the socket, short enough."""
    directory = Path(os.environ["XDG_RUNTIME_DIR"]) / "own"
    directory.mkdir(mode=0o700)
    return directory / "docker.sock"


class World:
    """A running instance: QEMU, a TLS door, and its keeper with a socket."""

    def __init__(self, instance: Instance, record, qemu, path: Path) -> None:
        self.instance, self.qemu, self.path = instance, qemu, path
        credentials = ensure_credentials(instance.credentials, instance.name)
        self.door = TlsDoor(credentials.smbios[0].parent)
        record.docker_port, record.ready, record.pid, record.socket = self.door.port, True, qemu.process.pid, str(path)
        record.qmp, record.keeper_qmp, record.desktop_ports = (str(instance.socket(kind)) for kind in ("qmp", "keeper", "ports"))
        instance.write_record(record)

    def connect(self, line: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(str(self.path))
        client.sendall(line)
        return client

    def keeper_pid(self) -> int:
        return keeper_pid(self.instance)


@pytest.fixture
def world(instance, record, qemu, path) -> Iterator[World]:
    made = World(instance, record, qemu, path)
    assert ensure_keeper(instance) == []
    yield made
    qemu.end()
    made.door.close()
    assert wait_until(lambda: launch.reap() == 0, PATIENCE), "the keeper outlives QEMU"
    assert not path.exists(), "the socket outlives QEMU"


def everything(client: socket.socket) -> bytes:
    parts = []
    while data := client.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


def test_the_socket_is_the_users_alone_and_told(world):
    status = world.path.lstat()
    assert stat.S_ISSOCK(status.st_mode)
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())
    assert api.status("box")[0]["socket"] == str(world.path)
    with world.connect(b"GET /v1.44/containers/json HTTP/1.1\r\nHost: docker\r\n\r\n") as client:
        assert everything(client).endswith(b"\r\n\r\n[]")


@pytest.mark.skipif(not DOCKER.exists(), reason="no docker program")
def test_docker_itself_uses_it(world, tmp_path):
    env = {
        "DOCKER_HOST": f"unix://{world.path}",
        "DOCKER_API_VERSION": "1.44",
        "DOCKER_CONFIG": str(tmp_path),
        "HOME": "/nowhere",
    }
    shown = subprocess.run([DOCKER, "ps", "--quiet"], env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "")


def test_the_program_ends_its_side_and_reads_the_answer(world):
    with world.connect(b"digest\n") as client:
        client.sendall(BLOCK)
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == hashlib.sha256(BLOCK).hexdigest().encode()


def test_the_engine_ends_its_side_and_reads_on(world):
    with world.connect(b"first\n") as client:
        assert everything(client) == b"mine is all said"
        client.sendall(BLOCK)
        client.shutdown(socket.SHUT_WR)
        assert wait_until(lambda: world.door.received == [hashlib.sha256(BLOCK).hexdigest()], PATIENCE)


def test_the_program_ends_its_side_while_much_is_on_its_way(world):
    """The notice that nothing more will be sent is made while data of the other side is waiting to be read."""
    size = 8 * len(BLOCK)
    with world.connect(b"both %d\n" % size) as client:
        client.sendall(BLOCK)
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == BLOCK * 8
    assert wait_until(lambda: world.door.received == [hashlib.sha256(BLOCK).hexdigest()], PATIENCE)


def test_64_mib_each_way(world):
    with world.connect(b"digest\n") as client:
        digest = hashlib.sha256()
        for _ in range(64):
            client.sendall(BLOCK)
            digest.update(BLOCK)
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == digest.hexdigest().encode()
    with world.connect(b"give %d\n" % (64 << 20)) as client:
        found, size = hashlib.sha256(), 0
        while data := client.recv(1 << 20):
            found.update(data)
            size += len(data)
    assert (size, found.hexdigest()) == (64 << 20, digest.hexdigest())


def test_50_streams_at_a_time(world):
    clients = [world.connect(b"echo\n") for _ in range(50)]
    wrong: list[int] = []

    def one(number: int, client: socket.socket) -> None:
        sent = bytes([number]) * 100_000
        for _ in range(3):
            client.sendall(sent)
            found = b""
            while len(found) < len(sent):
                found += client.recv(1 << 16)
            if found != sent:
                wrong.append(number)

    threads = [threading.Thread(target=one, args=each) for each in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert world.door.most >= 50
    for client in clients:
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b""
        client.close()
    assert wait_until(lambda: world.door.open <= 2, PATIENCE), "what has ended is open nowhere; the keeper has its own"


def test_an_engine_that_does_not_read_holds_the_program_back(world):
    with world.connect(b"stall\n") as client:
        assert client.recv(100) == b"stalled"
        client.setblocking(False)
        taken, full = 0, 0
        while full < 20 and taken < 64 << 20:
            try:
                taken += client.send(BLOCK)
                full = 0
            except BlockingIOError:
                full += 1
                wait_until(lambda: False, 0.05)
        assert taken < 64 << 20, "all of it was taken into memory"
        with world.connect(b"echo\nother") as other:
            assert other.recv(5) == b"other", "another stream goes on meanwhile"


def test_a_program_that_has_gone_takes_its_stream_with_it(world):
    """Not only its own side: a stream of logs would go on to nobody."""
    client = world.connect(b"linger\n")
    assert client.recv(100) == b"lingering"
    client.close()
    with world.connect(b"linger\n") as half:
        assert half.recv(100) == b"lingering"
        half.shutdown(socket.SHUT_WR)
        assert wait_until(lambda: world.door.lingering == 1, PATIENCE), "the one that is half closed is open"


def test_it_goes_with_qemu(world):
    with world.connect(b"echo\nhello") as client:
        assert client.recv(5) == b"hello"
        world.qemu.process.kill()
        assert client.recv(1) == b"", "and so do its streams"
    assert wait_until(lambda: not world.path.exists(), PATIENCE)


def test_a_killed_keeper_leaves_a_stale_one_that_the_next_replaces(world):
    os.kill(world.keeper_pid(), signal.SIGKILL)
    assert wait_until(lambda: not world.instance.keeper_lock.held_by_another(), PATIENCE)
    assert world.path.exists()
    assert not is_live(world.path)
    assert api.status("box")[0]["socket"] == str(world.path)
    with world.connect(b"echo\nhello") as client:
        assert client.recv(5) == b"hello"


def test_without_an_engine_the_connection_just_ends(world):
    world.door.close()
    with world.connect(b"echo\n") as client, suppress(ConnectionResetError):
        assert client.recv(1) == b""
    assert is_live(world.path)


def test_a_keeper_that_cannot_have_it_says_so_and_works_on(instance, record, qemu, path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        world = World(instance, record, qemu, path)
        assert ensure_keeper(instance) == []
        row = api.status("box")[0]
        assert "socket" not in row
        assert row["note"] == f"Docker's socket {path} is not there: --socket {path}: another program listens there"
        qemu.end()
        world.door.close()
        assert wait_until(lambda: launch.reap() == 0, PATIENCE)
        assert path.exists(), "it is not ours to remove"


def place(path: Path, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        check_place(path)
    assert str(error.value).startswith(f"--socket {path}: ")
    assert error.value.hint


def test_where_a_socket_may_not_be(path, tmp_path):
    check_place(path)
    place(path.with_name("x" * 100), "at most 103 bytes")
    place(path.parent / "nowhere/docker.sock", "No such file or directory")
    path.write_text("text")
    place(path, "something else is there")
    place(path / "below.sock", "is no directory")
    path.unlink()
    path.symlink_to("/run/docker.sock")
    place(path, "something else is there")
    path.unlink()
    path.parent.chmod(0o777)
    place(path, "others can write to")
    path.parent.chmod(0o1777)
    place(path, "others can write to")


def test_a_directory_of_somebody_else(path, monkeypatch):
    monkeypatch.setattr(socketplace.os, "geteuid", lambda: path.parent.stat().st_uid + 1)
    place(path, "belongs to another user")


def test_a_directory_that_another_group_writes_to(path, monkeypatch):
    path.parent.chmod(0o770)
    check_place(path)
    monkeypatch.setattr(socketplace.os, "getegid", lambda: path.parent.stat().st_gid + 1)
    place(path, "others can write to")


def test_windows_has_none_yet(path, monkeypatch):
    monkeypatch.setattr(socketplace, "WINDOWS", True)
    with pytest.raises(UsageError, match="a named pipe of Windows is not offered yet") as error:
        check_place(path)
    assert "context" in error.value.hint


def test_live_and_stale(path):
    require_free(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert is_live(path)
        with pytest.raises(InstanceError, match="another program listens there") as error:
            require_free(path)
        assert error.value.hint
        remove_stale(path)
        assert path.exists(), "a live one stays"
    assert not is_live(path)
    require_free(path)
    remove_stale(path)
    assert not path.exists()
    path.write_text("text")
    remove_stale(path)
    assert path.exists(), "only a socket goes"


def test_a_boot_has_it_a_restart_again_and_a_stop_takes_it_away(host, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    report = host.boot("kvm=ok", socket=path.name)
    assert report.socket == str(path)
    assert f"export DOCKER_HOST=unix://{path}" in "\n".join(report.lines())
    assert api.status("box")[0]["socket"] == str(path)
    monkeypatch.chdir("/")
    assert api.restart("box", Progress(quiet=True), image=Image())[1].socket == str(path)
    with pytest.raises(InstanceError, match="another program listens there"):
        host.boot("kvm=ok", name="two", socket=str(path))
    api.stop("box")
    assert wait_until(lambda: not path.exists(), PATIENCE)


def test_a_bad_place_boots_nothing(host, path):
    path.write_text("text")
    with pytest.raises(UsageError, match="something else is there"):
        host.boot("kvm=ok", socket=str(path))
    assert Instance("box").record is None
    assert path.read_text() == "text"


def test_after_kills_of_keeper_and_qemu_the_next_command_removes_the_stale_socket(host, path):
    host.boot("kvm=ok", socket=str(path))
    instance = Instance("box")
    home = str(instance.directory.parent.parent).encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"cofferdam.machine.ports.keeper" in (entry / "cmdline").read_bytes() and home in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
    os.kill(instance.record.pid, signal.SIGKILL)
    assert wait_until(lambda: not instance.alive, PATIENCE)
    assert path.exists()
    api.status("box")
    assert not path.exists()
