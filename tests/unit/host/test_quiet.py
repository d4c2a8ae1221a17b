"""`--quiet`: no progress, and all the same the result, errors and their exit status."""

from __future__ import annotations

import copy
import re

import pytest
import tasks
from invoke import Context, Exit, task

from cofferdam.errors import UsageError
from cofferdam.menu import QUIET, verb, working
from cofferdam.paths import ROOT
from cofferdam.progress import Progress
from cofferdam.verbs import show


@task(help={"quiet": QUIET})
@working
@verb
def build(_: Context, fail: bool = False) -> None:
    """A verb."""
    progress = Progress()
    with progress.stage("stage"):
        progress.step("step")
    if fail:
        raise UsageError("it failed", hint="Do this.")
    show("result")


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_left_away_and_the_result_stays(capsys, quiet):
    build(Context(), quiet=quiet)
    said = capsys.readouterr()
    assert said.out == "result\n"
    assert ("stage" in said.err and "step" in said.err) is not quiet
    assert quiet is (said.err == "")


def test_an_error_is_told_and_the_next_verb_is_not_quiet(capsys):
    with pytest.raises(Exit, match=r"error: it failed\n  next: Do this.") as error:
        build(Context(), fail=True, quiet=True)
    assert error.value.code == UsageError.exit_code
    build(Context())
    assert "stage" in capsys.readouterr().err


def test_the_documentation_names_the_verbs_that_have_it():
    text = " ".join((ROOT / "docs/boot.md").read_text(encoding="utf-8").split())
    (sentence,) = re.findall(r"`--quiet` \(`-q`\) of (.*?) leaves", text)
    contexts = copy.deepcopy(tasks.namespace).to_contexts()
    assert set(re.findall(r"`([\w.-]+)`", sentence)) == {each.name for each in contexts if "quiet" in each.args}
