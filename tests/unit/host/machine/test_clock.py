"""The host's half of the guest's clock, over a real socket with the guest's own agent at its other end."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from cofferdam.machine.clock import clock_line, keep_clock
from cofferdam_guest.agent import clock as guest_clock
from cofferdam_guest.agent.main import Agent
from cofferdam_guest.agent.messages import event, parse_command


@pytest.fixture
def server(instance, record):
    """The ready port of an instance that is up."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(instance.socket("ready")))
        listening.listen(1)
        record.ready, record.ready_port = True, str(instance.socket("ready"))
        instance.write_record(record)
        yield listening


def test_the_guest_s_agent_understands_the_line():
    assert parse_command(clock_line(12.5)) == ("clock", {"seconds": 12.5})


def test_a_guest_that_slept_gets_the_host_s_time(server, instance, monkeypatch):
    stepped: list[float] = []
    slept = time.time() - 3600
    monkeypatch.setattr(guest_clock.time, "clock_gettime", lambda _: slept)
    monkeypatch.setattr(guest_clock.time, "clock_settime", lambda _, seconds: stepped.append(seconds))
    notes, notes_in = os.pipe()

    def guest() -> None:
        port, _ = server.accept()
        with port:
            port.setblocking(False)
            agent = Agent(notes, port.fileno())
            agent.history.add(event("heartbeat", 1.0))
            while not stepped:
                agent.step()

    thread = threading.Thread(target=guest)
    before = time.time()
    thread.start()
    keep_clock(instance)
    thread.join()
    os.close(notes)
    os.close(notes_in)
    assert before <= stepped[0] <= time.time()


def test_a_guest_that_boots_is_left_alone(server, instance, record):
    record.ready = False
    instance.write_record(record)
    keep_clock(instance)
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()


def test_nobody_there_is_no_error(instance, record):
    keep_clock(instance)
    record.ready = True
    instance.write_record(record)
    keep_clock(instance)


def test_a_held_guest_does_not_hold_the_keeper(server, instance, monkeypatch):
    monkeypatch.setattr("cofferdam.machine.clock._PATIENCE", 0.1)
    keep_clock(instance)
    port, _ = server.accept()
    with port:
        assert parse_command(port.recv(200).strip())[0] == "clock"
