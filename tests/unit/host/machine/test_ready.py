"""Waiting for the guest: ready, or the reason why not, with the console's last lines in every error."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam.errors import BootError
from cofferdam.machine.ready import MachineEnded, NoHeartbeat, Waiter, Watched

LAST = "last words of the guest"


class Guest:
    """The other end: a socket pair, a console file and an exit status."""

    def __init__(self, directory: Path) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.console = directory / "console.log"
        self.log = directory / "qemu.log"
        self.console.write_text(f"\x1b[1mfirst\x1b[0m\n{LAST}\n")
        self.log.write_text("qemu: out of luck\n")
        self.status: int | None = None
        self.said: list[str] = []

    def send(self, event: str, **fields: object) -> None:
        self.theirs.sendall(json.dumps({"event": event, "uptime": 1.0, **fields}).encode() + b"\n")

    def waiter(self, timeout: float = 20.0, heartbeat: float | None = None) -> Waiter:
        watched = Watched(self.ours, self.console, self.log, lambda: self.status, timeout, heartbeat)
        return Waiter(watched, self.said.append)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    made = Guest(tmp_path)
    with made.ours, made.theirs:
        yield made


def failure(kind: type[BootError], waiter: Waiter) -> BootError:
    start = time.monotonic()
    with pytest.raises(kind) as error:
        waiter.wait()
    assert type(error.value) is kind
    assert time.monotonic() - start < 5
    assert f"  | {LAST}" in str(error.value)
    assert "  | first" in str(error.value), "without escape sequences"
    assert error.value.hint
    return error.value


def test_docker_ready(guest):
    waiter = guest.waiter()
    guest.send("heartbeat", kernel="7.3.4")
    guest.send("userspace", uptime=2.5)
    guest.send("docker", uptime=4.0)
    timeline = waiter.wait()
    assert list(timeline.seconds) == ["heartbeat", "userspace", "docker"]
    assert timeline.uptime == {"heartbeat": 1.0, "userspace": 2.5, "docker": 4.0}
    assert timeline.kernel == "7.3.4"
    assert [text.partition(" up after ")[0] for text in guest.said] == ["kernel", "user space", "Docker"]
    assert guest.said[0].endswith("waiting for user space")


def test_messages_that_come_later_and_twice(guest):
    waiter = guest.waiter(heartbeat=5.0)

    def talk() -> None:
        for event in ("heartbeat", "heartbeat", "userspace", "docker"):
            time.sleep(0.05)
            guest.send(event)

    thread = threading.Thread(target=talk)
    thread.start()
    timeline = waiter.wait()
    thread.join()
    assert timeline.seconds["heartbeat"] <= timeline.seconds["docker"]
    assert len(guest.said) == 3


def test_qemu_is_gone(guest):
    guest.status = 3
    guest.theirs.close()
    error = failure(MachineEnded, guest.waiter())
    assert "QEMU ended with status 3" in str(error)
    assert "    qemu: out of luck" in str(error)


def test_qemu_dies_later(guest):
    waiter = guest.waiter()

    def die() -> None:
        guest.theirs.close()
        guest.status = -9

    timer = threading.Timer(0.3, die)
    timer.start()
    assert "status -9" in str(failure(MachineEnded, waiter))
    timer.join()


def test_a_panic_is_told_before_the_exit_it_causes(guest):
    guest.status = 0
    with guest.console.open("a") as sink:
        sink.write("[    1.0] Kernel panic - not syncing: No working init found.\n")
    assert "the kernel panicked: No working init found." in str(failure(BootError, guest.waiter()))


def test_a_panic_ends_the_wait_while_qemu_lives(guest):
    guest.send("heartbeat")
    with guest.console.open("a") as sink:
        sink.write("Kernel panic - not syncing: hung\n")
    assert "the kernel panicked: hung" in str(failure(BootError, guest.waiter()))


def test_a_failed_unit_brings_its_journal(guest):
    guest.send("failed", unit="docker.service", journal=["no disk", "gave up"])
    text = str(failure(BootError, guest.waiter()))
    assert text.startswith("docker.service failed in the guest\n    no disk\n    gave up\n")


def test_what_the_guest_says_does_not_reach_the_terminal_as_it_is(guest):
    guest.send("heartbeat", kernel="7\x1b[2J\x1b]0;x\x07\n" + "9" * 1000)
    guest.send("failed", unit="a\x1b[31m.service\nb", journal=["\x1b]0;title\x07x"] * 1000)
    waiter = guest.waiter()
    error = failure(BootError, waiter)
    assert str(error).startswith("a.service b failed in the guest\n")
    for text in (str(error), waiter.timeline.kernel, *guest.said):
        assert not [each for each in text if each < " " and each != "\n"]
    assert len(waiter.timeline.kernel) <= 400
    assert "\n" not in waiter.timeline.kernel
    assert len(str(error).splitlines()) < 50


@pytest.mark.parametrize("journal", [None, "text", 3, {"a": 1}])
def test_a_journal_of_another_shape(guest, journal):
    guest.send("failed", journal=journal)
    assert str(failure(BootError, guest.waiter())).startswith("a unit failed in the guest\n")


def test_no_heartbeat(guest):
    error = failure(NoHeartbeat, guest.waiter(heartbeat=0.1))
    assert "no heartbeat within" in str(error)


def test_a_heartbeat_in_time_leaves_the_long_wait(guest):
    guest.send("heartbeat")
    error = failure(BootError, guest.waiter(timeout=0.7, heartbeat=0.1))
    assert "Docker was not ready within" in str(error)
    assert "up so far: kernel" in str(error)


def test_emulation_has_no_heartbeat_limit(guest):
    assert "up so far: nothing" in str(failure(BootError, guest.waiter(timeout=0.3, heartbeat=None)))


def test_garbage_does_not_count_as_a_heartbeat(guest):
    guest.theirs.sendall(b"\xff\xfe\n{}\n" + b"x" * 1000 + b"\n")
    failure(NoHeartbeat, guest.waiter(heartbeat=0.2))


def test_an_event_that_is_no_phase_does_not_disturb_the_wait(guest):
    waiter = guest.waiter()
    guest.send("units", units={})
    guest.send("docker")
    assert list(waiter.wait().seconds) == ["docker"]
