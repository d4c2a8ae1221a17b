"""Runs the project's tests: the linters and type checks are among them, the VM suites come last."""

from __future__ import annotations

import shlex
import sys

from cofferdam.checkout import read_checkout
from cofferdam.errors import CofferdamError, HostError
from cofferdam.paths import ROOT
from cofferdam.run import interactive

# As many machines at work at a time as there are processors, for two: an emulated one fills a processor and its caches, and more
# of them start fewer containers together. Two processors, one in each machine, a round of 40 s, two rounds of two machines: 15 a
# minute with one machine, 26 and 22 with two, 20 with three, 17 with four. tests/conftest.py keeps together what belongs to one
# machine.
_WORKERS = ("--numprocesses=2",)
_REPORT = "--junitxml="
_ALL, _SOME = "all", "some"


class TestsFailed(CofferdamError):
    """At least one test failed; pytest has said which."""

    __test__ = False


def run_tests(*, select: str = "", unit_only: bool = False, extra: str = "") -> None:
    """Run pytest with this interpreter.

    Args:
        select: pytest's `-k` expression.
        unit_only: leave out the tests that need a booted VM.
        extra: further pytest arguments, split as a shell would.

    Raises:
        TestsFailed: pytest ended with a status other than 0.
    """
    further = shlex.split(extra)
    whole = not select and not unit_only and all(word.startswith(_REPORT) for word in further)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        *_WORKERS,
        *(["-m", "not vm"] if unit_only else []),
        *(["-k", select] if select else []),
        f"--override-ini=junit_suite_name={suite_name(whole=whole)}",
        *further,
    ]
    status = interactive(argv, env={"PYTHONUNBUFFERED": "1", "COFFERDAM_ROOT": str(ROOT)})
    if status != 0:
        raise TestsFailed(
            f"pytest ended with status {status}", hint="Read the failures above; run one again with `inv test -k NAME`."
        )


def suite_name(*, whole: bool) -> str:
    """What a report (`--args=--junitxml=FILE`) calls itself: the commit, with `+` when it was changed, and whether all was run.

    Args:
        whole: whether all tests are run.
    """
    try:
        found = read_checkout()
    except HostError:
        return f"cofferdam unknown {_SOME}"
    return f"cofferdam {found.commit}{'+' if found.changed else ''} {_ALL if whole else _SOME}"
