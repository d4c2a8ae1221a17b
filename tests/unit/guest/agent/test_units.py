"""Unit times: what systemctl prints, and a systemctl that is a script."""

import json
import os
import socket

import pytest

from cofferdam_guest.agent import units
from cofferdam_guest.agent.main import Agent

SHOWN = """Id=docker.service
InactiveExitTimestampMonotonic=3500000
ActiveEnterTimestampMonotonic=9000000

Id=cofferdam-policy.service
InactiveExitTimestampMonotonic=3000000
ActiveEnterTimestampMonotonic=0

ActiveEnterTimestampMonotonic=[not set]
Id=containerd.service

rubbish
"""
DOCKER = {"docker.service": [3.5, 9.0]}


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """Make systemctl a script with this body."""

    def be(body):
        script = tmp_path / "systemctl"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setattr(units, "SYSTEMCTL", str(script))

    return be


def test_units_that_came_up_have_times_in_seconds():
    assert units.parse(SHOWN) == DOCKER
    assert units.parse("") == {}


def test_systemctl_is_asked_and_its_failure_is_an_empty_answer(systemctl, tmp_path, monkeypatch):
    (tmp_path / "shown").write_text(SHOWN)
    systemctl(f'test "$1" = show && cat {tmp_path}/shown')
    assert units.unit_times() == DOCKER
    systemctl("echo no bus >&2; exit 1")
    assert units.unit_times() == {}
    monkeypatch.setattr(units, "SYSTEMCTL", str(tmp_path / "none"))
    assert units.unit_times() == {}


def test_the_host_asks_and_only_then_systemctl_runs(systemctl, tmp_path):
    (tmp_path / "shown").write_text(SHOWN)
    systemctl(f"echo >>{tmp_path}/calls; cat {tmp_path}/shown")
    notes, notes_in = os.pipe()
    port, host = socket.socketpair()
    with port, host:
        port.setblocking(False)
        agent = Agent(notes, port.fileno())
        os.write(notes_in, b"docker\n")
        agent.step()
        assert not (tmp_path / "calls").exists()
        host.sendall(b'{"command":"units"}\n{"command":"units"}\n')
        agent.step()
        docker, told = (json.loads(line) for line in host.recv(4096).splitlines())
    os.close(notes)
    os.close(notes_in)
    assert (docker["event"], told["event"], told["units"]) == ("docker", "units", DOCKER)
    assert (tmp_path / "calls").read_text() == "\n"
