"""Timings: the guest's own agent at the other end of a real port, with a systemctl that is a script."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam import dayverbs, imageverbs
from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine import api
from cofferdam.machine.events import Event
from cofferdam.machine.instance import Instance, Record
from cofferdam.machine.report import BootReport
from cofferdam.timings import ask, read_timings, stages
from cofferdam_guest.agent import units
from servers.agentport import agent_at

SECONDS = {"heartbeat": 2.0, "userspace": 4.0, "docker": 10.0}
TOLD = {
    "cofferdam-data.service": [1.5, 2.5],
    "cofferdam-policy.service": [3.0, 3.25],
    "docker.service": [3.5, 9.0],
    "cofferdam-apiproxy.service": [3.5, 9.6],
}


def events(units: object = None) -> dict[str, Event]:
    """A guest whose kernel started half a second after power-on."""
    found = {"heartbeat": Event("heartbeat", 1.5), "userspace": Event("userspace", 3.5), "docker": Event("docker", 9.25)}
    return found if units is None else {**found, "units": Event("units", 20.0, {"units": units})}


def test_every_stage_lies_on_the_host_s_time_line_and_what_they_add_is_the_whole_boot():
    found = stages(SECONDS, events(TOLD))
    assert [(stage.name, stage.start, stage.end, stage.adds) for stage in found] == [
        ("firmware", 0.0, 0.5, 0.5),
        ("kernel", 0.5, 2.0, 1.5),
        ("data disk", 2.0, 3.0, 1.0),
        ("policy", 3.5, 3.75, 0.75),
        ("user space", 2.0, 4.0, 0.25),
        ("dockerd", 4.0, 9.5, 5.5),
        ("proxy", 4.0, 10.0, 0.5),
        ("ready", 9.75, 10.0, 0.0),
    ]
    assert sum(stage.adds for stage in found) == SECONDS["docker"]


def test_without_the_guest_the_phases_are_left():
    found = stages(SECONDS, {})
    assert [(stage.name, stage.adds) for stage in found] == [("kernel", 2.0), ("user space", 2.0), ("ready", 6.0)]


def test_a_unit_that_was_started_again_since_is_left_out():
    names = {stage.name for stage in stages(SECONDS, events({**TOLD, "docker.service": [3600.0, 3605.0]}))}
    assert "proxy" in names
    assert "dockerd" not in names


@pytest.mark.parametrize(
    "told",
    [
        [],
        "text",
        {"docker.service": 7},
        {"docker.service": [1.0]},
        {"docker.service": ["1", "2"]},
        {"docker.service": [5.0, 4.0]},
        {"docker.service": [-3.0, 4.0]},
        {"docker.service": [10**400, 10**400]},
        {"docker.service": [float("nan"), 4.0]},
        {"evil\x1b[2J.service": [1.0, 2.0]},
    ],
)
def test_a_guest_that_tells_nonsense_changes_nothing(told):
    assert stages(SECONDS, events(told)) == stages(SECONDS, events())


SHOW = "Id={}\nInactiveExitTimestampMonotonic={}\nActiveEnterTimestampMonotonic={}\n"


@pytest.fixture
def instance(tmp_path, monkeypatch) -> Iterator[Instance]:
    """An instance that is up: its record, its lock, and a port where nobody listens yet."""
    sockets = tempfile.mkdtemp(prefix="cd-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", sockets)
    monkeypatch.setenv("COFFERDAM_STATE_HOME", str(tmp_path))
    made = Instance("box")
    made.create()
    place = {"ready": True, "ready_port": str(made.socket("ready")), "seconds": SECONDS}
    made.write_record(Record(profile="default", accelerator="tcg", cpus=2, memory=2048, docker_port=2376, **place))
    assert made.life.acquire()
    yield made
    made.life.release()
    shutil.rmtree(sockets)


@pytest.fixture
def guest(instance, tmp_path, monkeypatch) -> Iterator[Path]:
    """The guest's agent at the port, serving one connection after the other; the file notes systemctl's calls."""
    calls = tmp_path / "calls"
    blocks = "\n".join(SHOW.format(unit, *(int(second * 1e6) for second in span)) for unit, span in TOLD.items())
    (tmp_path / "output").write_text(blocks)
    script = tmp_path / "systemctl"
    script.write_text(f'#!/bin/sh\necho "$*" >>{calls}\ncat {tmp_path / "output"}\n')
    script.chmod(0o755)
    monkeypatch.setattr(units, "SYSTEMCTL", str(script))
    with agent_at(instance.socket("ready"), {"heartbeat": 1.5, "userspace": 3.5, "docker": 9.25}):
        yield calls


def test_the_guest_is_asked_for_its_units_once(instance, guest):
    first = read_timings(instance)
    assert first.stages == stages(SECONDS, events(TOLD))
    assert (first.ready, first.note) == (10.0, "")
    assert read_timings(instance) == first
    (call,) = guest.read_text().splitlines()
    assert call.startswith("show --property=Id,")
    assert call.endswith(" ".join(units.PATTERNS))


def test_what_the_verb_prints_writes_and_gives_to_scripts(instance, guest, tmp_path, capsys):
    dayverbs.timings("box", plot=str(tmp_path / "boot.svg"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["stage", "begins", "ends", "adds"]
    assert [line.split() for line in lines if line.startswith("dockerd")] == [["dockerd", "4.00", "9.50", "5.50"]]
    assert "10.00 s after power-on" in lines[-2]
    drawn = (tmp_path / "boot.svg").read_text()
    assert ">dockerd<" in drawn
    assert "Boot of box (default, tcg): 10.0 s" in drawn
    dayverbs.timings("box", as_json=True)
    value = json.loads(capsys.readouterr().out)
    assert value["stages"][0] == {"name": "firmware", "start": 0.0, "end": 0.5, "adds": 0.5}
    with pytest.raises(UsageError, match="cannot be written") as error:
        dayverbs.timings("box", plot=str(tmp_path / "none/boot.svg"))
    assert error.value.hint


def test_boot_with_timings_shows_them_after_its_report(instance, guest, monkeypatch, capsys):
    report = BootReport("box", "default", "tcg", "", "7.3", SECONDS, {}, "tcp://127.0.0.1:2376", Path("/c"), None)
    monkeypatch.setattr(api, "boot", lambda *_, **__: report)
    imageverbs.boot(name="box", timings=True)
    assert any(line.startswith("dockerd ") for line in capsys.readouterr().out.splitlines())
    imageverbs.boot(name="box", timings=True, as_json=True)
    value = json.loads(capsys.readouterr().out)
    assert value["timings"]["ready"] == 10.0
    assert value["docker_host"] == "tcp://127.0.0.1:2376"
    imageverbs.boot(name="box", as_json=True)
    assert "timings" not in json.loads(capsys.readouterr().out)


def test_boot_draws_where_its_time_went_and_says_before_that_it_cannot(instance, guest, monkeypatch, capsys, tmp_path):
    booted = []
    report = BootReport("box", "default", "tcg", "", "7.3", SECONDS, {}, "tcp://127.0.0.1:2376", Path("/c"), None)
    monkeypatch.setattr(api, "boot", lambda *_, **__: booted.append(1) or report)
    for path in (tmp_path / "none/boot.svg", tmp_path):
        with pytest.raises(UsageError, match="cannot be written") as error:
            imageverbs.boot(name="box", timings=True, plot=str(path))
        assert error.value.hint
    assert not booted
    drawn = tmp_path / "boot.svg"
    imageverbs.boot(name="box", timings=True, plot=str(drawn))
    assert ">dockerd<" in drawn.read_text()
    *_, stages_end, last = capsys.readouterr().out.splitlines()
    assert "after power-on" in stages_end
    assert last.split() == ["plot", str(drawn)]
    monkeypatch.setattr(imageverbs, "check_output", lambda _: None)
    with pytest.raises(UsageError, match="cannot be written"):
        imageverbs.boot(name="box", plot=str(tmp_path / "none/boot.svg"))
    assert "after power-on" in capsys.readouterr().out, "the machine runs, and its report is there"


def test_a_guest_that_does_not_answer_leaves_the_phases_and_a_note(instance):
    found = read_timings(instance)
    assert [stage.name for stage in found.stages] == ["kernel", "user space", "ready"]
    assert found.note in found.lines()[-1]
    assert "did not tell its units" in found.note


def test_a_guest_that_falls_silent_is_not_waited_for_for_ever(instance):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(instance.socket("ready")))
        server.listen(1)
        assert ask(instance.record, 0.1) == {}


def test_nothing_is_known_of_a_machine_that_does_not_run(instance):
    instance.life.release()
    with pytest.raises(InstanceError, match="is not running") as error:
        read_timings(instance)
    assert "inv boot --name box --timings" in error.value.hint
    assert instance.life.acquire()
    record = instance.record
    record.ready = False
    instance.write_record(record)
    with pytest.raises(InstanceError):
        read_timings(instance)
