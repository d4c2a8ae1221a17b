"""The clock that the host sets. Only the setting itself is replaced: a test must not change the time of the machine it runs on."""

import json
import os
import socket
import time

import pytest

from cofferdam_guest.agent import clock
from cofferdam_guest.agent.main import Agent

NOW = 1_764_164_123.25


@pytest.fixture
def stepped(monkeypatch):
    """What the clock, which shows `NOW`, was set to."""
    values = []
    monkeypatch.setattr(clock.time, "clock_gettime", lambda which: {time.CLOCK_REALTIME: NOW}[which])
    monkeypatch.setattr(clock.time, "clock_settime", lambda which, seconds: values.append((which, seconds)))
    return values


@pytest.mark.parametrize("host", [NOW + 3600, NOW + 1.25, NOW - 5.25, NOW - 3600, int(NOW) + 8])
def test_a_clock_that_is_off_is_set(stepped, host):
    assert clock.adjust(host)
    assert stepped == [(time.CLOCK_REALTIME, host)]


@pytest.mark.parametrize("host", [NOW, NOW + 1, NOW - 1, NOW - 4.75])
def test_a_clock_that_is_right_is_left_and_a_late_message_does_not_set_it_back(stepped, host):
    assert not clock.adjust(host)
    assert stepped == []


@pytest.mark.parametrize("host", [None, True, "1764164999", [NOW + 9], 0, -5.0, 2**32, float("nan"), float("inf"), 10**400])
def test_what_is_no_time_is_ignored(stepped, host):
    assert not clock.adjust(host)
    assert stepped == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may set the clock of this machine")
def test_the_real_clock_is_what_is_set():
    with pytest.raises(PermissionError):
        clock.adjust(time.time() + 3600)


def test_the_host_sets_it_over_the_port(stepped):
    notes, notes_in = os.pipe()
    port, host = socket.socketpair()
    with port, host:
        port.setblocking(False)
        agent = Agent(notes, port.fileno())
        host.sendall(json.dumps({"command": "clock", "seconds": NOW + 60}).encode() + b'\n{"command":"clock"}\n')
        agent.step()
    os.close(notes)
    os.close(notes_in)
    assert stepped == [(time.CLOCK_REALTIME, NOW + 60)]
