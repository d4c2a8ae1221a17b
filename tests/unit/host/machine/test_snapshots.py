"""Snapshots: whole, sparse copies that appear at once or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cofferdam import lifeverbs
from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine import disk as disks
from cofferdam.machine import snapshots
from cofferdam.machine.disk import copy_disk, used_bytes
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.stored import bury

MIB = 2**20


@pytest.fixture
def box(instance: Instance) -> Instance:
    """An instance with a disk of 1 GiB: data at both ends and in the middle, else a hole."""
    with instance.data_disk.open("wb") as disk:
        disk.truncate(1024 * MIB)
        for place, text in ((0, b"begin"), (512 * MIB + 7, b"middle" * MIB), (1024 * MIB - 3, b"end")):
            disk.seek(place)
            disk.write(text)
    return instance


def change(instance: Instance) -> None:
    with instance.data_disk.open("r+b") as disk:
        disk.write(b"other")


def begin(path: Path) -> bytes:
    with path.open("rb") as disk:
        return disk.read(5)


def left_over(instance: Instance) -> list[str]:
    return [path.name for path in instance.directory.rglob(".*")]


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["/usr/bin/cmp", one, other], check=False).returncode == 0


def test_a_snapshot_is_the_disk_sparse_and_private(box):
    snapshot = snapshots.save("box", "v1.0")
    path = box.directory / "snapshots/v1.0.raw"
    assert snapshot.path == path
    assert same(path, box.data_disk)
    assert snapshot.size == 1024 * MIB
    assert used_bytes(path) <= used_bytes(box.data_disk) + MIB
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert left_over(box) == []


@pytest.mark.parametrize("place", [None, 0, 5 * MIB, 64 * MIB - 1])
def test_every_shape_of_disk_is_copied(tmp_path, place):
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as disk:
        disk.truncate(64 * MIB)
        if place is not None:
            disk.seek(place)
            disk.write(b"x")
    copy_disk(source, target)
    assert same(source, target)
    assert used_bytes(target) < MIB


def test_restore_brings_the_disk_back_and_keeps_the_snapshot(box):
    snapshots.save("box", "a")
    change(box)
    snapshots.save("box", "b")
    snapshots.restore("box", "a")
    assert begin(box.data_disk) == b"begin"
    assert same(box.data_disk, box.directory / "snapshots/a.raw")
    change(box)
    assert begin(box.directory / "snapshots/a.raw") == b"begin", "the disk is a copy, not the snapshot itself"
    snapshots.restore("box", "b")
    assert begin(box.data_disk) == b"other"
    assert stat.S_IMODE(box.data_disk.stat().st_mode) == 0o600


@pytest.mark.parametrize("verb", [snapshots.save, snapshots.restore])
def test_a_running_one_is_stopped_first(box, record, hold, verb):
    snapshots.save("box", "a")
    record.ready = True
    box.write_record(record)
    hold(box.life.path)
    with pytest.raises(InstanceError, match="instance `box` is running") as error:
        verb("box", "a")
    assert "inv stop --name box" in error.value.hint
    assert [each.label for each in snapshots.snapshots("box")] == ["a"]


def test_one_that_ended_by_itself_is_tidied_up(box, record):
    box.write_record(record)
    snapshots.save("box", "a")
    assert box.state() is State.STOPPED


def test_the_disk_of_a_deleted_one_has_its_snapshots(box):
    snapshots.save("box", "a")
    bury(box)
    change(box)
    snapshots.restore("box", "a")
    assert begin(box.data_disk) == b"begin"
    assert box.state() is State.DELETED


def test_a_label_is_not_taken_twice(box):
    snapshots.save("box", "a")
    change(box)
    with pytest.raises(InstanceError, match="already has a snapshot `a`") as error:
        snapshots.save("box", "a")
    assert "inv snapshot.delete --name box --label a" in error.value.hint
    assert begin(box.directory / "snapshots/a.raw") == b"begin"


@pytest.mark.parametrize("verb", [snapshots.restore, snapshots.delete])
def test_an_unknown_label_names_the_nearest(box, verb):
    with pytest.raises(InstanceError, match="has no snapshot `befor`") as error:
        verb("box", "befor")
    assert "inv snapshot.save --name box" in error.value.hint
    for label in ("before", "zzz"):
        snapshots.save("box", label)
    with pytest.raises(InstanceError) as error:
        verb("box", "befor")
    assert error.value.hint == "There are: before."
    with pytest.raises(InstanceError) as error:
        verb("box", "q")
    assert error.value.hint == "There are: before, zzz."


@pytest.mark.parametrize("label", ["", ".", "..", "../a", "a/b", ".a.new", "-a", "A", "a\n", "a" * 65, "ä"])
@pytest.mark.parametrize("verb", [snapshots.save, snapshots.restore, snapshots.delete])
def test_labels_that_are_refused(box, verb, label):
    with pytest.raises(UsageError, match="cannot be a snapshot's label"):
        verb("box", label)
    assert not (box.directory / "snapshots").exists()


def test_an_interrupted_copy_leaves_nothing(box, monkeypatch):
    snapshots.save("box", "a")
    change(box)

    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        snapshots.save("box", "b")
    with pytest.raises(KeyboardInterrupt):
        snapshots.restore("box", "a")
    assert left_over(box) == []
    assert [each.label for each in snapshots.snapshots("box")] == ["a"]
    assert begin(box.data_disk) == b"other"


KILLED = """
import os, signal
from cofferdam.machine import snapshots
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
snapshots.{verb}("box", "{label}")
"""


@pytest.mark.parametrize(("verb", "label"), [("save", "b"), ("restore", "a")])
def test_what_a_killed_command_left_goes_with_the_next_one(box, verb, label):
    snapshots.save("box", "a")
    change(box)
    done = subprocess.run([sys.executable, "-c", KILLED.format(verb=verb, label=label)], check=False)
    assert done.returncode == -9
    assert len(left_over(box)) == 1, "killed in the middle of the copy"
    assert [each.label for each in snapshots.snapshots("box")] == ["a"]
    assert begin(box.data_disk) == b"other"
    snapshots.save("box", "c")
    assert left_over(box) == []


# A file system of 8 MiB: in a mount namespace of its own, so that nothing else sees it.
FULL = """
mount -t tmpfs -o size=8M tmpfs "$COFFERDAM_STATE_HOME"
exec "$0" -c '
from cofferdam.errors import InstanceError
from cofferdam.machine import snapshots
from cofferdam.machine.instance import Instance
box = Instance("box")
box.create()
box.data_disk.write_bytes(b"x" * (5 << 20))
try:
    snapshots.save("box", "a")
except InstanceError as error:
    print(error, error.hint, sorted(path.name for path in box.directory.rglob("*.*")), sep="\\n")
box.data_disk.write_bytes(b"x" * (3 << 20))
print(snapshots.save("box", "a").used >> 20)
'
"""


def test_too_little_room_is_said_before_and_how_much_is_needed(home, monkeypatch):
    home.mkdir()
    monkeypatch.setenv("PATH", os.defpath)
    unshare = shutil.which("unshare", path="/usr/bin:/bin")
    assert unshare is not None
    words = [unshare, "--user", "--map-root-user", "--mount", "sh", "-ec", FULL, sys.executable]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, hint, found, used = done.stdout.splitlines()
    assert message.startswith("no disk space: 5M are needed in ")
    assert "COFFERDAM_STATE_HOME" in hint
    assert found == "['claim.lock', 'data.raw']"
    assert used == "3"


def test_where_blocks_can_be_shared_nothing_is_copied(box, monkeypatch):
    """No file system of the tests can do it for certain; that the copy is left to the kernel then is what is shown here."""
    asked = []

    def shared(source: int, target: int) -> bool:
        os.ftruncate(target, os.fstat(source).st_size)
        asked.append((source, target))
        return True

    monkeypatch.setattr(disks, "_share_blocks", shared)
    monkeypatch.setattr(disks, "_copy_data", lambda *_: pytest.fail("copied"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: pytest.fail("needs no room"))
    assert snapshots.save("box", "a").size == 1024 * MIB
    assert len(asked) == 1


def test_a_refusing_disk_is_an_error_with_a_next_step(box, monkeypatch):
    def refused(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(InstanceError, match="Input/output error") as error:
        snapshots.save("box", "a")
    assert error.value.hint
    assert left_over(box) == []


def test_delete_and_list(box, hold, capsys):
    lifeverbs.snapshot_list("box")
    assert capsys.readouterr().out == "next           inv snapshot.save --name box --label LABEL makes the first\n"
    for label in ("b", "a"):
        lifeverbs.snapshot_save("box", label)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("b ")
    assert "inv snapshot.restore --name box --label b" in lines[1]
    hold(box.life.path)
    lifeverbs.snapshot_delete("box", "b")
    assert "inv snapshot.list --name box" in capsys.readouterr().out
    lifeverbs.snapshot_list("box", as_json=True)
    assert '"label": "a"' in (text := capsys.readouterr().out)
    assert '"label": "b"' not in text
    lifeverbs.snapshot_list("box")
    assert capsys.readouterr().out.splitlines()[0].endswith("of 1G")


def test_what_is_not_there(home, instance):
    with pytest.raises(InstanceError, match="there is no instance `nosuch`"):
        snapshots.snapshots("nosuch")
    with pytest.raises(InstanceError, match="has no data disk yet"):
        snapshots.save("box", "a")
    assert not (home / "instances/nosuch").exists()
