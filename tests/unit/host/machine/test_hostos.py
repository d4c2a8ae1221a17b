"""Locks that the kernel keeps, processes that are told apart, files that only their owner reads."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from cofferdam.machine.hostos import (
    FileLock,
    end_process,
    private_directory,
    process_start,
    wait_until,
    write_json,
    write_private,
)


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_private_files_are_private_from_the_first_byte(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text("old and open")
    path.chmod(0o644)
    modes = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (modes.append(stat.S_IMODE(os.fstat(handle).st_mode)), fsync(handle)))
    old = os.umask(0)
    try:
        write_private(path, "ü")
    finally:
        os.umask(old)
    assert modes == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == "ü".encode()
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["key"]


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = write_private(tmp_path / "key", b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert write_private(path, b"new").read_bytes() == b"new"


def test_a_planted_link_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".key.new").symlink_to(victim)
    write_private(tmp_path / "key", b"secret")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "key").is_symlink()


def test_json_ends_with_a_line_end_and_is_sorted(tmp_path):
    assert write_json(tmp_path / "x", {"b": 1, "a": 2}).read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'


def test_private_directory_closes_an_open_one(tmp_path):
    path = tmp_path / "a/b"
    path.mkdir(parents=True, mode=0o755)
    assert stat.S_IMODE(private_directory(path).stat().st_mode) == 0o700


def test_a_lock_excludes_others_until_it_is_released(tmp_path):
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert not first.held_by_another()
    assert first.acquire()
    assert second.held_by_another()
    start = time.monotonic()
    assert not second.acquire(timeout=0.1)
    assert time.monotonic() - start >= 0.1
    with first.holding():
        pass
    assert not second.held_by_another()
    assert second.acquire()
    second.release()


def test_asking_makes_no_file(tmp_path):
    assert not FileLock(tmp_path / "lock").held_by_another()
    assert not FileLock(tmp_path / "gone/lock").held_by_another()
    assert list(tmp_path.glob("lock")) == []


def test_those_who_ask_do_not_take_each_other_for_the_holder(tmp_path):
    lock = FileLock(tmp_path / "lock")
    with lock.path.open("w") as asking:
        # What another command that asks does for a moment, held on to.
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert not lock.held_by_another()
        assert not lock.acquire(), "but nobody takes it meanwhile"
    assert lock.acquire(timeout=1.0)
    lock.release()


def test_a_lock_of_a_file_that_was_replaced_is_not_current(tmp_path):
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    with lock.holding():
        assert lock.current
        (tmp_path / "lock").rename(tmp_path / "old")
        assert not lock.current
        (tmp_path / "lock").touch()
        assert not lock.current


def test_a_child_that_inherits_the_lock_holds_it(tmp_path):
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[lock.fileno()])
    lock.release()
    with pytest.raises(ValueError, match="is not locked"):
        lock.fileno()
    assert lock.held_by_another()
    child.kill()
    child.wait()
    assert not lock.held_by_another()


def test_a_killed_holder_holds_no_longer(tmp_path, hold):
    process = hold(tmp_path / "lock")
    lock = FileLock(tmp_path / "lock")
    assert lock.held_by_another()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not lock.held_by_another()
    assert lock.acquire()
    lock.release()


def test_a_process_is_known_by_pid_and_start(sleeper):
    start = process_start(sleeper.pid)
    assert start is not None
    assert start == process_start(sleeper.pid)
    assert start != process_start(os.getppid())
    assert not end_process(sleeper.pid, "another start")
    assert not end_process(sleeper.pid, None)
    assert sleeper.poll() is None
    assert end_process(sleeper.pid, start)
    assert sleeper.wait(10) == -signal.SIGTERM
    assert process_start(sleeper.pid) is None


def test_a_zombie_is_no_process(sleeper):
    start = process_start(sleeper.pid)
    assert end_process(sleeper.pid, start, force=True)
    assert wait_until(lambda: process_start(sleeper.pid) is None, 10)
    assert not end_process(sleeper.pid, start)


def test_wait_until():
    answers = iter([False, False, True])
    assert wait_until(lambda: next(answers), 5, step=0.001)
    start = time.monotonic()
    assert not wait_until(lambda: False, 0.1, step=0.01)
    assert time.monotonic() - start < 30
