"""Deleting: everything but the data goes, or everything; also after a deletion that was killed; never without a yes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cofferdam import lifeverbs, verbs
from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine import api, context, snapshots
from cofferdam.machine.hostos import process_start
from cofferdam.machine.instance import Instance, Record, State
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.stored import bury, remember, take_again
from cofferdam.paths import ROOT


@pytest.fixture
def full(instance: Instance) -> Instance:
    """An instance that was booted, stopped and has a snapshot."""
    instance.data_disk.write_bytes(b"data" * 128)
    snapshots.save("box", "first")
    (instance.credentials / "client").mkdir(parents=True)
    (instance.credentials / "client/key.pem").write_text("key")
    for path in (instance.console, instance.qemu_log, instance.known_hosts):
        path.write_text("text")
    instance.write_ports({"docker": 2376})
    remember(instance, BootSettings())
    return instance


def run_it(instance: Instance, record: Record, hold) -> subprocess.Popen[str]:
    process = hold(instance.life.path)
    record.ready, record.pid, record.process_start = True, process.pid, process_start(process.pid)
    instance.write_record(record)
    return process


def files(instance: Instance) -> set[str]:
    found = {str(path.relative_to(instance.directory)) for path in instance.directory.rglob("*") if path.is_file()}
    return found - {"claim.lock", "life.lock"}


def inv(*words: str, terminal: str | None = None) -> tuple[int, str]:
    """Exit status and output of a verb, without a terminal, or on one where `terminal` is typed."""
    command = [sys.executable, "-m", "invoke", *words]
    if terminal is None:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr
    ours, theirs = pty.openpty()
    os.write(ours, f"{terminal}\n".encode())
    done = subprocess.run(command, cwd=ROOT, stdin=theirs, capture_output=True, text=True, timeout=120)
    os.close(ours)
    os.close(theirs)
    return done.returncode, done.stdout + done.stderr


def test_the_data_is_kept_and_shown(full, capsys):
    report = api.delete("box")
    assert files(full) == {"data.raw", "snapshots/first.raw", "deleted"}
    assert full.data_disk.read_bytes() == b"data" * 128
    assert report.lines()[-1] == "next           inv boot --name box uses the disk again; inv delete --name box --data removes it"
    lifeverbs.list_instances()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["box", "deleted"]
    assert "inv delete --name box --data" in lines[2]
    lifeverbs.list_instances(as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["state"], row["data_disk"]["bytes"]) == ("deleted", 512)


def test_that_there_are_no_instances_is_said_alike(capsys):
    for show in (lifeverbs.list_instances, partial(verbs.status, "")):
        show()
        assert capsys.readouterr().out == "no instances; `inv up` makes the first\n"
        show(as_json=True)
        assert json.loads(capsys.readouterr().out) == []


def test_with_data_nothing_is_left(full):
    assert not api.delete("box", data=True).kept
    assert list(full.directory.parent.iterdir()) == []
    assert full.state() is State.ABSENT


def test_the_kept_data_can_be_deleted_later(full):
    api.delete("box")
    assert api.delete("box").kept, "once more changes nothing"
    assert not api.delete("box", data=True).kept
    assert full.state() is State.ABSENT
    with pytest.raises(InstanceError, match="there is no instance `box`") as error:
        api.delete("box", data=True)
    assert "inv list" in error.value.hint


def test_one_without_data_goes_whole(instance):
    instance.console.write_text("text")
    assert not api.delete("box").kept
    assert instance.state() is State.ABSENT


def test_a_running_one_is_stopped_and_its_context_goes(full, record, hold, tmp_path):
    made = context.instance_context("box", full.directory, tmp_path / "docker")
    client = full.credentials / "client"
    for name in ("ca.pem", "cert.pem"):
        (client / name).write_text("text")
    context.create(made, "tcp://127.0.0.1:1", client)
    record.docker_config = str(made.config)
    process = run_it(full, record, hold)
    assert api.delete("box").kept
    assert process.wait(10) < 0
    assert context.description_of(made) is None
    assert full.state() is State.DELETED


def test_whatever_a_killed_deletion_left_is_a_deleted_instance(full, monkeypatch):
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            api.delete("box")
    assert (full.credentials / "client/key.pem").exists()
    assert full.state() is State.DELETED
    assert api.delete("box").kept
    assert files(full) == {"data.raw", "snapshots/first.raw", "deleted"}


def test_a_boot_after_a_killed_deletion_finds_the_data_alone(full):
    bury(full)
    full.console.write_text("text of before")
    with full.claim("boot"):
        assert len(take_again(full)) == 1
    assert files(full) == {"data.raw", "snapshots/first.raw"}
    assert full.state() is State.STOPPED


def test_a_killed_deletion_with_data_can_be_repeated(full, monkeypatch):
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            api.delete("box", data=True)
    assert full.state() is State.ABSENT
    assert not api.delete("box", data=True).kept
    assert list(full.directory.parent.iterdir()) == []


def test_remove_still_takes_all_and_refuses_a_running_one(full, record, hold):
    process = run_it(full, record, hold)
    with pytest.raises(InstanceError, match="already running"):
        api.remove("box")
    process.kill()
    process.wait()
    api.remove("box")
    assert full.state() is State.ABSENT


def test_without_a_terminal_a_running_one_and_data_need_a_yes(full, record, hold):
    assert inv("delete", "--name", "box", "--data")[0] == 2
    process = run_it(full, record, hold)
    status, text = inv("delete", "--name", "box")
    assert status == 2
    assert "stop it? There is no terminal to ask on" in text
    assert "next: Add --yes." in text
    assert process.poll() is None
    assert full.credentials.exists()
    status, text = inv("delete", "--name", "box", "--data", "--yes")
    assert status == 0, text
    assert full.state() is State.ABSENT


def test_without_a_terminal_a_stopped_one_is_deleted_and_keeps_its_data(full):
    status, text = inv("delete", "--name", "box")
    assert status == 0, text
    assert full.state() is State.DELETED


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1), ("\4", 1)])
def test_on_a_terminal_it_asks(full, answer, status):
    found, text = inv("delete", "--name", "box", "--data", terminal=answer)
    assert found == status, text
    assert "Delete instance box: remove its data disk and snapshots?" in text
    assert full.data_disk.exists() == (status != 0)


def test_a_verb_without_an_instance_says_so():
    for words in (["delete"], ["restart"], ["resize", "--cpus", "2"], ["snapshot.list"]):
        status, text = inv(*words, "--name", "box")
        assert status == 6, text
        assert "there is no instance `box`" in text
        assert "  next: " in text
    with pytest.raises(UsageError):
        api.delete("No Name")
