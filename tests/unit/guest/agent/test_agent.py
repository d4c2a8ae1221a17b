"""The agent between a FIFO and a port, both real descriptors; only the machine's own powers are replaced."""

import json
import os
import socket

import pytest

from cofferdam_guest.agent import main as agent_module
from cofferdam_guest.agent.main import PORT_NAME, Agent
from cofferdam_guest.linux.virtioport import find_port


@pytest.fixture
def wires():
    """`(agent, write end of the FIFO, the host's end of the port)`."""
    notes, notes_in = os.pipe()
    port, host = socket.socketpair()
    port.setblocking(False)
    host.settimeout(5)
    yield Agent(notes, port.fileno()), notes_in, host
    port.close()
    host.close()
    os.close(notes)
    os.close(notes_in)


def test_notes_become_events(wires):
    agent, notes, host = wires
    os.write(notes, b"userspace\nrubbish\ndocker\n")
    agent.step()
    agent.step()
    first, second = (json.loads(line) for line in host.recv(4096).splitlines())
    assert first["event"] == "userspace" and first["uptime"] > 0
    assert second["event"] == "docker" and second["kernel"] == os.uname().release


def test_a_failure_brings_the_journal(wires, monkeypatch):
    agent, notes, host = wires
    monkeypatch.setattr(agent_module, "journal_tail", lambda unit: [f"last words of {unit}"])
    os.write(notes, b"failed docker.service\n")
    agent.step()
    agent.step()
    message = json.loads(host.recv(4096))
    assert (message["event"], message["unit"]) == ("failed", "docker.service")
    assert message["journal"] == ["last words of docker.service"]


def test_the_host_can_power_off(wires, monkeypatch):
    agent, _, host = wires
    signals = []
    monkeypatch.setattr(agent_module.os, "kill", lambda pid, number: signals.append((pid, number)))
    host.sendall(b'{"command": "nonsense"}\n')
    agent.step()
    assert signals == []
    host.sendall(b'{"command": "poweroff"}\n')
    agent.step()
    # systemd(1): SIGRTMIN+4 starts poweroff.target.
    assert signals == [(1, agent_module.signal.SIGRTMIN + 4)]


def test_without_a_host_notes_are_kept_for_the_next_one(wires):
    agent, notes, host = wires
    os.write(notes, b"userspace\n")
    agent.step()
    agent.step()
    host.close()
    os.write(notes, b"docker\n")
    agent.step()
    assert [json.loads(line)["event"] for line in agent.history.pending.splitlines()] == ["userspace", "docker"]


def test_the_port_is_found_by_its_name(tmp_path):
    for entry, name in (("vport1p0", "other"), ("vport1p1", "org.cofferdam.ready\n")):
        (tmp_path / entry).mkdir()
        (tmp_path / entry / "name").write_text(name)
    (tmp_path / "vport1p2").mkdir()
    assert find_port(PORT_NAME, str(tmp_path), "/dev") == "/dev/vport1p1"
    assert find_port("org.cofferdam.none", str(tmp_path)) is None
    assert find_port(PORT_NAME, str(tmp_path / "none")) is None
