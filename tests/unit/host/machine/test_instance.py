"""Instances: the state comes from locks and processes, never from what a file says."""

from __future__ import annotations

import json
import signal
import stat

import pytest

from cofferdam.errors import InstanceError
from cofferdam.machine import api
from cofferdam.machine.instance import Instance, State, instances, remove_instance


def test_absent_and_stopped(home):
    instance = Instance("box")
    assert instance.state() is State.ABSENT
    assert not home.exists(), "asking makes nothing"
    instance.create()
    assert instance.state() is State.STOPPED
    assert stat.S_IMODE(instance.directory.stat().st_mode) == 0o700


def test_a_record_without_a_process_is_stale_whatever_it_says(instance, record):
    for ready in (False, True):
        record.ready = ready
        instance.write_record(record)
        assert instance.state() is State.STALE


def test_a_pid_in_the_record_does_not_make_it_alive(instance, record):
    record.ready, record.pid, record.process_start = True, 1, "1"
    instance.write_record(record)
    assert instance.state() is State.STALE


def test_a_process_without_a_ready_record_is_unfinished(instance, record, hold):
    hold(instance.life.path)
    assert instance.state() is State.UNFINISHED
    instance.write_record(record)
    assert instance.state() is State.UNFINISHED


def test_a_living_process_that_was_ready_runs(instance, record, hold):
    record.ready = True
    instance.write_record(record)
    process = hold(instance.life.path)
    # Its monitor is busy, as far as one can tell; but it lives.
    assert instance.state() is State.RUNNING
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not instance.alive
    assert instance.state() is State.STALE


def test_a_process_that_dies_during_the_question_is_not_paused(instance, record, hold, monkeypatch):
    record.ready = True
    instance.write_record(record)
    process = hold(instance.life.path)

    def dies(*_: object, **__: object) -> None:
        process.kill()
        process.wait()
        raise InstanceError("gone")

    monkeypatch.setattr("cofferdam.machine.instance.Monitor", dies)
    assert instance.state() is State.STALE


def test_a_claim_shows_as_starting_or_stopping(instance, record):
    with instance.claim("boot"):
        assert instance.state() is State.STARTING
        assert instance.settled_state() is State.STOPPED
        instance.write_record(record)
        assert instance.state() is State.STARTING
        record.ready = True
        instance.write_record(record)
        assert instance.state() is State.STOPPING
    assert instance.state() is State.STALE


def test_two_claims_exclude_each_other(instance):
    other = Instance("box")
    with instance.claim("boot"):
        with (
            pytest.raises(InstanceError, match="another command is starting or stopping") as error,
            other.claim("stop", timeout=0.05),
        ):
            pass
        assert "inv status --name box" in error.value.hint
    with other.claim("stop", timeout=0.05):
        assert instance.claimed


def test_a_claim_of_a_killed_command_is_free(instance, hold):
    process = hold(instance.claim_lock.path)
    assert instance.claimed
    process.kill()
    process.wait()
    with instance.claim("boot", timeout=0.05):
        pass


def test_a_claim_is_let_go_when_the_command_fails(instance):
    with pytest.raises(ZeroDivisionError), instance.claim("boot"):
        raise ZeroDivisionError
    assert not instance.claimed


def test_who_waited_while_it_was_removed_does_not_work_on_a_ghost(instance, monkeypatch):
    acquire = instance.claim_lock.acquire

    def late(timeout: float) -> bool:
        held = acquire(timeout)
        remove_instance(Instance("box"))
        return held

    monkeypatch.setattr(instance.claim_lock, "acquire", late)
    with pytest.raises(InstanceError, match="has just been removed"), instance.claim("boot"):
        pass
    assert not instance.directory.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"profile": 3}', '{"version": 9}', "\udcff"])
def test_a_damaged_record_is_none(instance, content):
    (instance.directory / "boot.json").write_bytes(content.encode(errors="surrogateescape"))
    assert instance.record is None
    assert instance.state() is State.STOPPED


def test_a_record_survives_and_a_later_versions_field_does_no_harm(instance, record):
    record.seconds, record.kernel = {"docker": 3.5}, "7.3"
    instance.write_record(record)
    path = instance.directory / "boot.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(json.dumps({**json.loads(path.read_text()), "invented": 1}))
    assert instance.record == record


def test_clear_removes_what_only_a_running_one_has(instance, record):
    instance.write_record(record)
    instance.write_ports({"docker": 2376})
    for path in (instance.pidfile, instance.data_disk, instance.socket("qmp"), instance.socket("ready")):
        path.touch()
    instance.clear()
    assert instance.state() is State.STOPPED
    assert not instance.pidfile.exists()
    assert not instance.socket("qmp").exists()
    assert instance.data_disk.exists()
    assert instance.last_ports == {"docker": 2376}
    instance.clear()


@pytest.mark.parametrize(
    ("content", "ports"),
    [("", {}), ("[]", {}), ("{", {}), ('{"docker": "x", "ssh": 22}', {"ssh": 22}), ('{"docker": 1}', {"docker": 1})],
)
def test_ports_of_the_latest_boot(instance, content, ports):
    assert instance.last_ports == {}
    (instance.directory / "ports.json").write_text(content)
    assert instance.last_ports == ports


def test_sockets_have_short_paths_that_differ_by_home(tmp_path):
    here, there = Instance("a" * 32), Instance("a" * 32, tmp_path / "elsewhere")
    assert here.socket("qmp") != there.socket("qmp")
    assert here.socket("qmp") != here.socket("ready")
    assert len(str(here.socket("ready"))) < 100


def test_the_process_is_the_recorded_one_or_that_of_the_pid_file(instance, record, hold):
    assert instance.qemu_process() is None
    process = hold(instance.life.path)
    instance.pidfile.write_text(f"{process.pid}\n")
    found = instance.qemu_process()
    assert found is not None
    assert found[0] == process.pid
    record.pid, record.process_start = process.pid, found[1]
    instance.write_record(record)
    assert instance.qemu_process() == found
    # No monitor answers here, so it takes signals.
    instance.kill(timeout=10)
    assert not instance.alive
    assert process.wait(10) == -signal.SIGTERM


def test_another_process_of_the_same_number_is_not_killed(instance, record, hold, tmp_path):
    bystander = hold(tmp_path / "other")
    hold(instance.life.path)
    record.pid, record.process_start = bystander.pid, "another start"
    instance.write_record(record)
    with pytest.raises(InstanceError, match="does not end"):
        instance.kill(timeout=0.2)
    assert bystander.poll() is None


def test_list(home):
    assert instances() == []
    for name in ("b", "a"):
        Instance(name).create()
    (home / "instances/.a.123").mkdir()
    (home / "instances/No Name").mkdir()
    (home / "instances/file").touch()
    assert [each.name for each in instances()] == ["a", "b"]


def test_remove(instance, record):
    instance.data_disk.write_text("data")
    instance.write_record(record)
    api.remove("box")
    assert list(instance.directory.parent.iterdir()) == []
    with pytest.raises(InstanceError, match="there is no instance `box`"):
        api.remove("box")


def test_remove_refuses_a_running_one(instance, record, hold):
    record.ready = True
    instance.write_record(record)
    hold(instance.life.path)
    instance.data_disk.write_text("data")
    with pytest.raises(InstanceError, match="already running"):
        api.remove("box")
    assert instance.data_disk.read_text() == "data"


def test_what_a_killed_remove_left_goes_with_the_next_one(instance):
    (instance.directory.parent / ".box.77/credentials").mkdir(parents=True)
    (instance.directory.parent / ".box-2.77").mkdir()
    instance.directory.rmdir()
    api.remove("box")
    assert [path.name for path in instance.directory.parent.iterdir()] == [".box-2.77"]


def test_status_tidies_up_a_stale_one(instance, record):
    instance.write_record(record)
    (row,) = api.status()
    assert (row["name"], row["state"]) == ("box", "stopped")
    assert "ended without `inv stop`" in row["note"]
    assert "note" not in api.status("box")[0]


def test_status_leaves_an_unfinished_one_alone(instance, hold):
    process = hold(instance.life.path)
    (row,) = api.status("box")
    assert row["state"] == "unfinished"
    assert "inv stop --name box" in row["note"]
    assert process.poll() is None


def test_status_of_none():
    assert api.status() == []
    with pytest.raises(InstanceError, match="there is no instance"):
        api.status("box")
