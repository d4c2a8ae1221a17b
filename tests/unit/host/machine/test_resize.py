"""A data disk that grows under a running machine: QEMU's own block layer, and the guest's own agent with a program of the test."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cofferdam import lifeverbs
from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine import growth
from cofferdam.machine import resize as resizing
from cofferdam.machine.channels import Address
from cofferdam.machine.cmdline import DATA_NODE
from cofferdam.machine.hostos import process_start
from cofferdam.machine.instance import Instance, Record, State
from cofferdam.machine.qmp import Monitor
from cofferdam.machine.resize import resize
from cofferdam.machine.settings import Sizes
from cofferdam.machine.stored import read_sizes
from cofferdam_guest.agent import growth as guest_growth
from cofferdam_guest.agent.messages import parse_command
from servers.agentport import agent_at
from unit.host.machine.conftest import QEMU, RealQemu

pytestmark = pytest.mark.skipif(QEMU is None, reason="QEMU is not installed: see `inv doctor`")

MIB = 2**20
HELD = ("-machine", "q35", "-S", "-device", f"virtio-blk-pci,drive={DATA_NODE}")
Program = Callable[[str], None]


class Machine(RealQemu):
    """QEMU with a data disk, as an instance that is up: no processors, or a held machine with the disk's controller in it."""

    def __init__(self, instance: Instance, record: Record, *words: str) -> None:
        with instance.data_disk.open("wb") as disk:
            disk.truncate(64 * MIB)
        node = {"driver": "raw", "node-name": DATA_NODE, "file": {"driver": "file", "filename": str(instance.data_disk)}}
        super().__init__(instance, "-blockdev", json.dumps(node), "-trace", "handle_qmp_command", *words)
        # It answers once it has its disk.
        with Monitor(Address(path=str(instance.socket("qmp")))) as monitor:
            monitor.status()
        record.qmp, record.ready_port = (str(instance.socket(kind)) for kind in ("qmp", "ready"))
        record.ready, record.pid, record.process_start = True, self.process.pid, process_start(self.process.pid)
        instance.write_record(record)

    def shown(self) -> list[int]:
        """The sizes that QEMU was told to show, by its own log; it reads the file's size by itself, but tells the guest only then."""
        found = re.findall(r"req: (\{.*block_resize.*\})", self.instance.qemu_log.read_text())
        return [json.loads(text)["arguments"]["size"] for text in found]


@pytest.fixture
def machine(instance: Instance, record: Record) -> Iterator[Machine]:
    made = Machine(instance, record)
    yield made
    made.end()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Make the guest's program a script with this body."""

    def be(body: str) -> None:
        script = tmp_path / "data-disk"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setattr(guest_growth, "PROGRAM", str(script))

    return be


@pytest.fixture
def guest(instance: Instance) -> Iterator[None]:
    """The guest's agent at the ready port, one host after the other."""
    with agent_at(instance.socket("ready"), {"heartbeat": 1.5}):
        yield


def test_the_running_guest_has_the_new_size_at_once(machine, guest, program, tmp_path):
    program(f'echo "$*" >>{tmp_path}/calls; echo {125 * MIB}')
    report = resize("box", Sizes(data_disk=128 * MIB))
    assert machine.instance.data_disk.stat().st_size == 128 * MIB
    assert machine.shown() == [128 * MIB]
    assert (tmp_path / "calls").read_text() == f"grow {128 * MIB}\n"
    assert report.lines() == [
        "data disk      grown from 64M to 128M; the running guest's file system has 125M now",
        "next           inv status --name box",
    ]
    assert machine.instance.state() is State.RUNNING
    assert read_sizes(machine.instance) == Sizes(), "nothing is left to the next boot"


@pytest.mark.parametrize("done", ["nothing", "file", "file and QEMU"])
def test_the_same_command_ends_what_a_killed_one_began(machine, guest, program, tmp_path, done):
    program(f'echo "$*" >>{tmp_path}/calls; echo {125 * MIB}')
    if "file" in done:
        os.truncate(machine.instance.data_disk, 128 * MIB)
    if "QEMU" in done:
        growth.show_to_guest(machine.instance, machine.instance.record)
    assert "has 125M now" in resize("box", Sizes(data_disk=128 * MIB)).lines()[0]
    assert machine.shown()[-1] == 128 * MIB
    assert (tmp_path / "calls").read_text() == f"grow {128 * MIB}\n"


def test_a_guest_that_takes_longer_than_a_turn_is_asked_again_and_does_it_once(machine, guest, program, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "_TURN", 0.1)
    monkeypatch.setattr(growth, "_PAUSE", 0.01)
    os.mkfifo(tmp_path / "gate")
    program(f'echo "$*" >>{tmp_path}/calls; read word <{tmp_path}/gate; echo {125 * MIB}')
    turns = []
    turn = growth._turn

    def counted(*args):
        turns.append(args)
        if len(turns) == 4:
            (tmp_path / "gate").write_text("go\n")
        return turn(*args)

    monkeypatch.setattr(growth, "_turn", counted)
    assert "has 125M now" in resize("box", Sizes(data_disk=128 * MIB)).lines()[0]
    assert len(turns) >= 4
    assert (tmp_path / "calls").read_text() == f"grow {128 * MIB}\n"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            "echo 'cofferdam: the data disk cannot be grown: No space.' >&2; exit 1",
            "cofferdam: the data disk cannot be grown: No space.",
        ),
        (r"printf 'evil \033[2J text\n'", "evil  text"),
        ("exit 3", "ended with status 3"),
        ("exit 0", "ended with status 0"),
    ],
)
def test_what_the_guest_cannot_do_is_told_with_the_next_step(machine, guest, program, body, text):
    program(body)
    lines = resize("box", Sizes(data_disk=128 * MIB)).lines()
    assert lines[0] == "data disk      grown from 64M to 128M"
    assert lines[1].startswith("note           the guest still has the old size: the guest could not grow its file system: ")
    assert text in lines[1]
    assert (
        lines[2] == "next           inv resize --name box --disk 128M asks the guest again; inv boot --name box applies all of it"
    )


def test_a_program_that_is_not_there_is_told(machine, guest, monkeypatch, tmp_path):
    monkeypatch.setattr(guest_growth, "PROGRAM", str(tmp_path / "none"))
    assert "cannot be started: No such file or directory" in resize("box", Sizes(data_disk=128 * MIB)).lines()[1]


def test_a_guest_that_does_not_answer_is_given_up(machine):
    report = resize("box", Sizes(data_disk=128 * MIB), patience=0.3)
    assert machine.shown() == [128 * MIB]
    assert "the guest did not answer within 0 s: it is held, busy, or of an older image" in report.lines()[1]
    assert "asks the guest again" in report.lines()[-1]


def test_a_machine_that_ends_meanwhile_is_told(machine, monkeypatch):
    def end(*_):
        machine.process.kill()
        machine.process.wait(10)

    monkeypatch.setattr(growth, "_turn", end)
    assert "the machine ended meanwhile" in resize("box", Sizes(data_disk=128 * MIB)).lines()[1]


def test_a_held_machine_is_shown_the_size_and_not_waited_for(instance, record):
    machine = Machine(instance, record, *HELD)
    try:
        report = resize("box", Sizes(cpus=2, data_disk=128 * MIB))
        assert machine.shown() == [128 * MIB]
    finally:
        machine.end()
    assert report.lines()[2] == "note           the guest still has the old size: QEMU holds it"
    assert read_sizes(instance) == Sizes(cpus=2)


def test_a_monitor_that_does_not_answer_is_told_and_the_file_is_large(machine, record):
    record.qmp = str(machine.instance.socket("none"))
    machine.instance.write_record(record)
    lines = resize("box", Sizes(data_disk=128 * MIB)).lines()
    assert "the guest still has the old size: QEMU's monitor does not answer" in lines[1]
    assert machine.instance.data_disk.stat().st_size == 128 * MIB


def test_a_machine_whose_boot_was_killed_grows_with_its_next_boot(machine, record):
    record.ready = False
    machine.instance.write_record(record)
    lines = resize("box", Sizes(data_disk=128 * MIB)).lines()
    assert "the command that booted it was killed" in lines[1]
    assert (machine.instance.data_disk.stat().st_size, machine.shown()) == (128 * MIB, [])


def test_it_never_shrinks_under_a_running_machine(machine):
    with pytest.raises(UsageError, match="cannot shrink to 64M"):
        os.truncate(machine.instance.data_disk, 96 * MIB)
        resize("box", Sizes(cpus=2, data_disk=64 * MIB))
    assert read_sizes(machine.instance) == Sizes()


def test_a_disk_that_is_gone_is_an_error_and_none_is_made(machine):
    machine.instance.data_disk.unlink()
    with pytest.raises(InstanceError, match=r"data disk of instance `box` is gone.*data\.raw") as error:
        resize("box", Sizes(data_disk=128 * MIB))
    assert "inv stop --name box" in error.value.hint
    assert not machine.instance.data_disk.exists()


def test_status_and_stop_need_not_wait_for_the_guest(machine, monkeypatch):
    states = []
    monkeypatch.setattr(growth, "grow_in_guest", lambda *_: states.append(machine.instance.state()) or 125 * MIB)
    resize("box", Sizes(data_disk=128 * MIB))
    assert states == [State.RUNNING]


def test_a_promise_that_the_host_cannot_keep_is_noted(instance, monkeypatch, capsys):
    with instance.data_disk.open("wb") as disk:
        disk.truncate(64 * MIB)
    usage = shutil.disk_usage(instance.directory)._replace(free=100 * MIB)
    monkeypatch.setattr(resizing.shutil, "disk_usage", lambda _: usage)
    lifeverbs.resize("box", "", "", "96M")
    assert "note" not in capsys.readouterr().out
    lifeverbs.resize("box", "", "", "128M")
    assert "the disk may come to take 128M more, and this machine has 100M free" in capsys.readouterr().out


def test_the_guests_agent_understands_the_line():
    assert parse_command(growth.grow_line("7f", 128 * MIB)) == ("grow", {"id": "7f", "bytes": 128 * MIB})
