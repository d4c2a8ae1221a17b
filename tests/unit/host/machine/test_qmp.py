"""The monitor, against a small server that speaks QEMU's protocol."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cofferdam.errors import InstanceError
from cofferdam.machine.channels import Address
from cofferdam.machine.qmp import Monitor

GREETING = {"QMP": {"version": {"qemu": {"major": 9, "minor": 2, "micro": 0}, "package": ""}, "capabilities": ["oob"]}}


class Server:
    """One connection after the other; remembers the commands and answers from a table."""

    def __init__(self, path: Path) -> None:
        self.address = Address(path=str(path))
        self.commands: list[str] = []
        self.answers: dict[str, Any] = {"query-status": {"status": "running", "running": True}}
        self.greets = True
        self.left: list[Any] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            # The client may leave in the middle of a word.
            with connection, contextlib.suppress(OSError):
                if self.greets:
                    self._talk(connection)
                while connection.recv(1000):
                    pass

    def _talk(self, connection: socket.socket) -> None:
        def say(value: object) -> None:
            connection.sendall(json.dumps(value).encode() + b"\r\n")

        for value in self.left:
            say(value)
        self.left.clear()
        say(GREETING)
        # Requests come without line ends, one at a time.
        while data := connection.recv(10_000):
            request = json.loads(data)
            command = request["execute"]
            self.commands.append(command)
            answer = self.answers.get(command, {})
            own = {"id": request["id"]} if "id" in request else {}
            if answer == "hang up":
                connection.shutdown(socket.SHUT_RDWR)
                return
            if answer == "answer and hang up":
                say({**own, "return": {}})
                connection.shutdown(socket.SHUT_RDWR)
                return
            if answer == "silence":
                continue
            if command != "qmp_capabilities":
                say({"event": "NOISE", "data": {}, "timestamp": {"seconds": 1, "microseconds": 0}})
            say({**own, **(answer if "error" in answer else {"return": answer})})

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "q")
    yield made
    made.close()


def test_commands_arrive_and_answers_come_back(server):
    with Monitor(server.address) as monitor:
        assert monitor.status() == "running"
        monitor.pause()
        monitor.resume()
        monitor.press_power_button()
    assert server.commands == ["qmp_capabilities", "query-status", "stop", "cont", "system_powerdown"]


def test_one_connection_after_the_other(server):
    for _ in range(3):
        with Monitor(server.address) as monitor:
            assert monitor.status() == "running"
            monitor.close()
            monitor.close()
            with pytest.raises(InstanceError, match="not connected"):
                monitor.status()


def test_nobody_listens(tmp_path):
    with pytest.raises(InstanceError, match="does not answer"), Monitor(Address(path=str(tmp_path / "none"))):
        pass


@pytest.mark.parametrize("address", [Address(path="x" * 200), Address(port=1)])
def test_an_address_that_cannot_be(address):
    with pytest.raises(InstanceError, match="does not answer"), Monitor(address, timeout=5):
        pass


def test_a_server_that_does_not_greet_is_given_up(server):
    server.greets = False
    start = time.monotonic()
    with pytest.raises(InstanceError, match="does not answer") as error, Monitor(server.address, timeout=0.3):
        pass
    assert time.monotonic() - start < 5
    assert "stop --force" in error.value.hint


def test_a_command_that_is_not_answered_is_given_up(server):
    server.answers["query-status"] = "silence"
    with Monitor(server.address, timeout=0.3) as monitor, pytest.raises(InstanceError, match="TimeoutError"):
        monitor.status()


def test_a_refusal_is_told(server):
    server.answers["cont"] = {"error": {"class": "GenericError", "desc": "Resetting the Virtual Machine is required"}}
    with Monitor(server.address) as monitor:
        with pytest.raises(InstanceError, match="QEMU refused: Resetting"):
            monitor.resume()
        assert monitor.status() == "running", "the connection is still good"


def test_quit_does_not_mind_that_qemu_is_gone(server):
    server.answers["quit"] = "hang up"
    with Monitor(server.address) as monitor:
        monitor.quit()


def test_quit_minds_a_refusal(server):
    server.answers["quit"] = {"error": {"class": "GenericError", "desc": "no"}}
    with Monitor(server.address) as monitor, pytest.raises(InstanceError, match="refused"):
        monitor.quit()


def test_other_commands_mind_that_qemu_is_gone(server):
    server.answers["stop"] = "hang up"
    with Monitor(server.address) as monitor, pytest.raises(InstanceError, match="does not answer"):
        monitor.pause()


@pytest.mark.parametrize("answer", ["hang up", "answer and hang up"])
def test_qemu_may_end_while_it_is_connected_to(server, answer):
    """The second is a race in qemu.qmp: it asserts that the session it has just made lives."""
    server.answers["qmp_capabilities"] = answer
    for _ in range(30):
        with pytest.raises(InstanceError, match="does not answer"), Monitor(server.address) as monitor:
            monitor.status()


def test_what_was_left_for_the_client_before_is_passed_over(server):
    server.left = [{"return": {}, "id": "of another"}]
    with Monitor(server.address) as monitor:
        assert monitor.status() == "running"


def test_who_never_greets_rightly_is_no_monitor(server, monkeypatch):
    monkeypatch.delitem(GREETING, "QMP")
    with pytest.raises(InstanceError, match="does not answer"), Monitor(server.address):
        pass
