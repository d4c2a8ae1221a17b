"""The build cache: whole or not there, one builder at a time, inputs decide."""

import io
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from cofferdam.cache import Stage, digest, tree_digest
from cofferdam.errors import BuildError
from cofferdam.progress import Progress


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))


def progress() -> Progress:
    return Progress(Console(file=io.StringIO()))


def test_result_is_kept_and_not_made_twice():
    made = []
    stage = Stage("kernel", digest({"a": 1}))
    for _ in range(2):
        path = stage.build(lambda work, log: (made.append(1), (work / "vmlinuz").write_text("x")), progress())
    assert made == [1]
    assert (path / "vmlinuz").read_text() == "x"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, BuildError("no"), OSError(28, "No space left on device")])
def test_failure_and_interrupt_leave_no_entry(failure):
    stage = Stage("root", digest("x"))

    def broken(work: Path, log: Path) -> None:
        (work / "half").write_text("half")
        raise failure

    with pytest.raises((KeyboardInterrupt, BuildError)):
        stage.build(broken, progress())
    assert not stage.ready
    assert not list(stage.path.parent.glob("*.tmp"))


def test_killed_builder_leaves_no_entry_and_no_lock():
    stage = Stage("root", digest("killed"))

    def child() -> None:
        stage.build(lambda work, log: ((work / "half").write_text("half"), os.kill(os.getpid(), 9)), progress())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(20)
    assert process.exitcode == -9
    assert not stage.ready
    path = stage.build(lambda work, log: (work / "whole").write_text("whole"), progress())
    assert [item.name for item in path.iterdir()] == ["whole"]


def test_two_builders_at_once_build_once(tmp_path):
    stage, marks = Stage("image", digest("two")), tmp_path / "marks"
    marks.mkdir()

    def child(name: str) -> None:
        def make(work: Path, log: Path) -> None:
            (marks / name).touch()
            time.sleep(0.5)
            (work / "image").write_text(name)

        stage.build(make, progress())

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=child, args=(name,)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len(list(marks.iterdir())) == 1


def test_disk_full_names_path_and_next_step():
    stage = Stage("root", digest("full"))

    def full(work: Path, log: Path) -> None:
        raise OSError(28, "No space left on device", str(work))

    with pytest.raises(BuildError, match="No space left") as error:
        stage.build(full, progress())
    assert "COFFERDAM_CACHE_HOME" in error.value.hint


def test_tree_digest_sees_content_mode_and_links_but_not_byte_code(tmp_path):
    (tmp_path / "a").write_text("1")
    first = tree_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    assert tree_digest(tmp_path) == first
    (tmp_path / "a").chmod(0o755)
    second = tree_digest(tmp_path)
    (tmp_path / "l").symlink_to("a")
    assert len({first, second, tree_digest(tmp_path)}) == 3
