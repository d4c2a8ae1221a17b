"""The agent and the program that grows the disk: real processes, real descriptors."""

import json
import os
import socket

import pytest

from cofferdam_guest.agent import datadisk, growth
from cofferdam_guest.agent.datadisk import DiskError
from cofferdam_guest.agent.main import Agent


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Make the program a script with this body."""

    def be(body):
        script = tmp_path / "data-disk"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setattr(growth, "PROGRAM", str(script))

    return be


@pytest.fixture
def wires():
    """`(agent, write end of the FIFO, the host's end of the port)`."""
    notes, notes_in = os.pipe()
    port, host = socket.socketpair()
    port.setblocking(False)
    host.settimeout(20)
    yield Agent(notes, port.fileno()), notes_in, host
    port.close()
    host.close()
    os.close(notes)
    os.close(notes_in)


def ask(host, name, size):
    host.sendall(json.dumps({"command": "grow", "id": name, "bytes": size}).encode() + b"\n")


def answer(agent, host):
    while not agent.history.pending:
        agent.step()
    agent.step()
    return json.loads(host.recv(4096))


def test_the_host_hears_what_the_file_system_has(wires, program, tmp_path):
    agent, _, host = wires
    program(f'echo "$@" >>{tmp_path}/calls; echo 1000')
    ask(host, "7f", 2048)
    found = answer(agent, host)
    assert (found["event"], found["id"], found["bytes"]) == ("grown", "7f", 1000)
    assert (tmp_path / "calls").read_text() == "grow 2048\n"


def test_a_failure_is_its_last_line(wires, program):
    agent, _, host = wires
    program("echo 5; echo first >&2; echo last words >&2; exit 1")
    ask(host, "7f", 2048)
    assert answer(agent, host)["error"] == "last words"


def test_the_agent_listens_while_the_program_works_and_does_the_same_once(wires, program, tmp_path):
    agent, notes, host = wires
    os.mkfifo(tmp_path / "gate")
    program(f'echo "$@" >>{tmp_path}/calls; read word <{tmp_path}/gate; echo 1000')
    ask(host, "7f", 2048)
    agent.step()
    ask(host, "7f", 2048)
    agent.step()
    os.write(notes, b"docker\n")
    assert answer(agent, host)["event"] == "docker"
    (tmp_path / "gate").write_text("go\n")
    assert answer(agent, host)["bytes"] == 1000
    ask(host, "7f", 2048)
    assert answer(agent, host)["bytes"] == 1000, "whoever asks again hears it again"
    assert (tmp_path / "calls").read_text() == "grow 2048\n"


@pytest.mark.parametrize(
    ("name", "size"),
    [("", 5), ("x" * 65, 5), (7, 5), (None, 5), ("a", 0), ("a", -1), ("a", 2**63), ("a", True), ("a", "5"), ("a", 5.0)],
)
def test_what_is_no_name_and_size_is_ignored(program, name, size):
    program("echo 1000")
    growths = growth.Growths()
    assert growths.ask(name, size) is None
    assert growths.outputs == []


def test_no_descriptor_and_no_process_is_left(wires, program, tmp_path):
    agent, _, host = wires
    program(f"echo $$ >>{tmp_path}/pids; echo 1000")
    before = sorted(os.listdir("/proc/self/fd"))
    for number in range(5):
        ask(host, f"n{number}", 2048)
        answer(agent, host)
    assert sorted(os.listdir("/proc/self/fd")) == before
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 5
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A disk of 4096 bytes, and the enlargements that were asked of the kernel, which no test may have: `(path, list)`."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(4096))
    made = []
    monkeypatch.setattr(datadisk, "extend", lambda device, point: made.append((device, point)))
    return str(path), made


def test_the_file_system_is_grown_once_the_disk_has_the_size(disk, monkeypatch):
    path, made = disk
    monkeypatch.setattr(datadisk.time, "sleep", lambda _: made.append("waited") or os.truncate(path, 8192))
    found = os.statvfs(os.path.dirname(path))
    assert datadisk.grow(path, os.path.dirname(path), 8192) == found.f_blocks * found.f_frsize
    assert made == ["waited", (path, os.path.dirname(path))]


def test_a_disk_that_stays_small_is_an_error(disk, monkeypatch):
    path, made = disk
    monkeypatch.setattr(datadisk, "_SEEN_SECONDS", 0.1)
    with pytest.raises(DiskError, match="4096 bytes for the kernel, not 8192"):
        datadisk.grow(path, "/", 8192)
    assert made == []


def test_the_program_prints_the_bytes_or_why_not(disk, monkeypatch, capsys):
    path, _ = disk
    monkeypatch.setattr(datadisk, "DEVICE", path)
    monkeypatch.setattr(datadisk, "MOUNT_POINT", "/")
    monkeypatch.setattr(datadisk, "_SEEN_SECONDS", 0.1)
    assert datadisk.main(["grow", "4096"]) == 0
    assert capsys.readouterr().out.strip().isdecimal()
    assert datadisk.main(["grow", "8192"]) == 1
    assert capsys.readouterr().err.startswith("cofferdam: the data disk has 4096 bytes")
