"""Work in steps: what is whole is kept, what is not or was changed is made again, whenever the run before ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cofferdam.errors import InstanceError
from cofferdam.progress import Progress
from cofferdam.release.work import STAMP, Step, Work, all_jobs, plan_jobs, run_jobs, upto

QUIET = Progress(quiet=True)


class Killed(BaseException):
    """What ends a run in the middle, and no code cleans up after."""


class Desk:
    """The state of the steps below: what they were given, what was done, and where it ends."""

    def __init__(self, directory: Path) -> None:
        self.work = Work(directory)
        self.done: list[str] = []
        self.word = "one"
        self.ends_in = ""

    def make(self, name, needs):
        def made(state, subject, directory):
            text = "".join((self.work.place(need, *subject[:size]) / "out").read_text() for need, size in needs)
            (directory / "out").write_text(f"{name}{subject} {self.word if name == 'a' else ''} {text}")
            if self.ends_in == "-".join((name, *subject)):
                raise Killed
            self.done.append("-".join((name, *subject)))

        return made

    def steps(self):
        word = lambda state, subject: state.word  # noqa: E731
        nothing = lambda state, subject: None  # noqa: E731
        return [
            Step("a", "first", "profile", (), word, self.make("a", ())),
            Step("b", "second", "artefact", ("a",), nothing, self.make("b", (("a", 1),))),
            Step("c", "third", "release", (), nothing, self.make("c", ())),
            Step("d", "fourth", "release", ("b", "c"), nothing, self.make("d", (("c", 0),))),
        ]

    def run(self, until=""):
        self.done = []
        return run_jobs(self.jobs(), self, self.work, QUIET, until)

    def jobs(self):
        return all_jobs(self.steps(), ["p", "q"], ["x", "y"])


NAMES = ["a-p", "a-q", "b-p-x", "b-p-y", "b-q-x", "b-q-y", "c", "d"]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "work")


def test_everything_is_done_once_in_order(desk):
    assert [each.kept for each in desk.run()] == [False] * 8
    assert desk.done == NAMES
    assert [each.kept for each in desk.run()] == [True] * 8
    assert desk.done == []


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_where_the_one_before_was_killed(desk, name):
    desk.ends_in = name
    with pytest.raises(Killed):
        desk.run()
    before = NAMES.index(name)
    assert desk.done == NAMES[:before]
    desk.ends_in = ""
    planned = plan_jobs(desk.jobs(), desk, desk.work)
    # What needs nothing that is missing could still be there; here nothing behind the kill is.
    assert [each.name for each in planned if not each.kept] == NAMES[before:]
    desk.run()
    assert desk.done == NAMES[before:]
    assert not list(desk.work.directory.glob("*.part"))


@pytest.mark.parametrize("damage", ["changed", "gone", "more", "stamp gone", "stamp cut", "stamp empty"])
def test_what_is_not_as_it_was_is_made_again(desk, damage):
    desk.run()
    place = desk.work.place("c")
    stamp = place / STAMP
    {
        "changed": lambda: (place / "out").write_text("x"),
        "gone": lambda: (place / "out").unlink(),
        "more": lambda: (place / "more").write_text("x"),
        "stamp gone": stamp.unlink,
        "stamp cut": lambda: stamp.write_text(stamp.read_text()[:20]),
        "stamp empty": lambda: stamp.write_text(""),
    }[damage]()
    desk.run()
    # `d` is made from the checksums of `c`, which are the same again
    assert desk.done == ["c"]


def test_other_inputs_make_everything_anew_that_hangs_on_them(desk):
    desk.run()
    desk.word = "two"
    desk.run()
    assert desk.done == [name for name in NAMES if name != "c"]


def test_a_part_of_the_steps(desk):
    desk.run(until="b")
    assert desk.done == NAMES[:6]
    assert [each.name for each in plan_jobs(desk.jobs(), desk, desk.work) if each.kept] == NAMES[:6]
    assert [job.name for job in upto(desk.jobs(), "a")] == ["a-p", "a-q"]


def test_only_one_is_at_work(desk):
    with (
        desk.work.claimed(),
        pytest.raises(InstanceError, match="another command is at work"),
        Work(desk.work.directory).claimed(),
    ):
        pass
    with desk.work.claimed():
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from cofferdam.release.work import Work
def make(directory):
    (directory / "out").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
work = Work(Path(sys.argv[1]))
with work.claimed():
    work.make("one", "inputs", make)
"""


def test_a_process_that_is_killed_leaves_neither_a_result_nor_a_claim(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    work = Work(tmp_path)
    assert work.kept("one", "inputs") is None
    with work.claimed():
        stamp = work.make("one", "inputs", lambda directory: (directory / "out").write_text("whole"))
    assert work.kept("one", "inputs") == stamp
    assert work.kept("one", "others") is None
    assert (tmp_path / "one/out").read_text() == "whole"
