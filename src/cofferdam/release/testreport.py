"""The report of a run of all tests (JUnit): whether it is of a commit as it is, and whether everything passed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, parse
from pydantic import BaseModel, ConfigDict

from cofferdam.errors import CofferdamError

_AGAIN = "Run `inv test --args=--junitxml=FILE` on the commit that is released, and name that file: --tests FILE."


class TestsRefusedError(CofferdamError):
    """A report that is no proof."""

    __test__ = False
    exit_code: ClassVar[int] = 8


class TestSummary(BaseModel):
    """How many tests there were; those that must fail without isolation, and do, are among the skipped ones."""

    __test__ = False
    model_config = ConfigDict(frozen=True)

    passed: int
    skipped: int
    seconds: float


def judge_report(path: Path, commit: str) -> TestSummary:
    """What a report says, if it is a proof for a commit.

    Args:
        path: the report, written by `inv test --args=--junitxml=FILE`.
        commit: of what is released.

    Raises:
        TestsRefusedError: it cannot be read, is of another commit or of one that was changed, leaves tests out, or one failed.
    """
    try:
        suites = list(parse(path).getroot().iter("testsuite"))
        counts = [{name: int(each.get(name, "")) for name in ("tests", "failures", "errors", "skipped")} for each in suites]
        seconds = sum(float(each.get("time", "0")) for each in suites)
    except (OSError, ParseError, DefusedXmlException, ValueError) as error:
        raise TestsRefusedError(f"{path} is no report of tests: {error}", hint=_AGAIN) from error
    wanted = re.compile(rf"cofferdam {commit} all")
    if not suites or not all(wanted.fullmatch(each.get("name", "")) for each in suites):
        names = ", ".join(each.get("name", "") for each in suites) or "nothing"
        raise TestsRefusedError(f"{path} is not of all tests of {commit[:12]} but of: {names[:200]}", hint=_AGAIN)
    total = {name: sum(each[name] for each in counts) for name in counts[0]}
    if total["failures"] or total["errors"]:
        failed = [
            f"{case.get('classname', '')}::{case.get('name', '')}"
            for case in parse(path).getroot().iter("testcase")
            if case.find("failure") is not None or case.find("error") is not None
        ]
        lines = "\n".join(failed[:20])
        raise TestsRefusedError(
            f"{total['failures'] + total['errors']} tests failed:\n{lines}", hint="Mend them; then test again."
        )
    passed = total["tests"] - total["skipped"]
    if passed < 1:
        raise TestsRefusedError(f"{path}: no test was run", hint=_AGAIN)
    return TestSummary(passed=passed, skipped=total["skipped"], seconds=seconds)
