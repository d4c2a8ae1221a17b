"""Updates that are killed after any step, with their machine or without: the next command finishes or undoes them, and says so."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable

import pytest

from cofferdam.machine import api, update
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.kept import Step
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.update import STEPS
from unit.host.machine import test_lifecycle as lifecycle
from unit.host.machine import test_update as updates
from unit.host.machine.test_update import QUIET, boots, installed, running, state

host, seen, box = lifecycle.host, updates.seen, updates.box
WITH_QEMU = ("boot", "booted", "self-test")
"""Steps after which the new image runs, and is not confirmed yet."""


def killed_after(step: str, act: Callable[..., object]) -> None:
    """Do something in a process of its own, which kills itself after a step of an update."""

    def end(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            act(after=end)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill_qemu(instance: Instance) -> None:
    found = instance.qemu_process() if instance.alive else None
    if found is not None:
        os.kill(found[0], signal.SIGKILL)
    assert wait_until(lambda: not instance.alive, 20)


@pytest.mark.parametrize("step", [name for name, _ in STEPS])
@pytest.mark.parametrize("power_cut", [False, True], ids=["inv", "power"])
def test_a_kill_after_any_step_is_settled_by_the_next_command(box, step, power_cut):
    new = installed("1.1")
    killed_after(step, lambda after: update.update("box", new, QUIET, snapshot=True, after=after))
    if power_cut:
        kill_qemu(box)
    note = api.status("box")[0].get("note", "")
    done = step == "confirm" or (step in WITH_QEMU and not power_cut)
    assert state(box)[::2] == (("1.1", Step.CONFIRMED) if done else ("1.0", Step.ROLLED_BACK))
    assert running(box) == ("" if power_cut else "1.1" if done else "1.0" if step == "plan" else "")
    if step != "confirm":
        assert f"the update to 1.1 was interrupted{', and is finished' if done else ' and is undone'}" in note
    assert "update" not in api.status("box")[0].get("note", ""), "it is said once"
    assert box.data_disk.read_bytes()[:4] == b"data"
    if not box.alive:
        assert api.boot(BootSettings(name="box"), QUIET).image == ("1.1, verified" if done else "1.0, verified")


def test_a_kill_while_the_new_image_boots_is_undone_by_the_next_boot(box):
    hanging = installed("1.1", "hang")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            update.update("box", hanging, QUIET)
        finally:
            os._exit(1)
    record = lambda: box.record and box.record.image and box.record.image.version  # noqa: E731
    assert wait_until(lambda: record() == "1.1" and box.record.pid is not None, 60)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert box.state() is State.UNFINISHED
    report = api.boot(BootSettings(name="box"), QUIET)
    assert report.image == "1.0, verified"
    assert any("the update to 1.1 was interrupted and is undone" in note for note in report.notes)


def test_a_killed_update_whose_image_fails_its_self_test_is_undone(box):
    new = installed("1.1")
    killed_after("booted", lambda after: update.update("box", new, QUIET, after=after))
    (new.directory / "broken").touch()
    assert "is undone (self-test: containers have ids of the VM)" in api.status("box")[0]["note"]
    assert (box.state(), state(box)) == (State.STOPPED, ("1.0", "", Step.ROLLED_BACK))


def test_a_killed_rollback_is_settled_as_well(box):
    update.update("box", installed("1.1"), QUIET)
    killed_after("stop", lambda after: update.rollback("box", QUIET, after=after))
    assert "the update to 1.0 was interrupted and is undone" in api.status("box")[0]["note"]
    assert boots(box) == "1.1"
