"""Console sessions in documents: what is read as typed, and when an answer counts as the one that is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cofferdam.machine.report import BootReport
from cofferdam.machine.stop import StopReport
from cofferdam.paths import ROOT
from vmtest.console import Step, difference, steps

HEADING = "First ten minutes"
DOCUMENT = """# Title
```console
$ before
```
## Here
Text.
```console
$ one
1
$ cat <<end
> text
> end
text
> no command
```
### Below
```sh
$ a shell script, no session
# A comment that looks like a heading
## Elsewhere
```
```console
$ silent
```
## Elsewhere
```console
$ after
```
"""


def test_the_sessions_of_one_section_are_read_in_order():
    assert steps(DOCUMENT, "Here") == [
        Step(8, "one", ("1",)),
        Step(10, "cat <<end\ntext\nend", ("text", "> no command")),
        Step(23, "silent", ()),
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("## Other\n```console\n$ x\n```\n", "no console session"),
        ("## Here\nno block\n", "no console session"),
        ("## Here\n```console\n$ x\n", "not closed"),
        ("## Here\n```console\noutput\n```\n", "line 3: a session begins"),
        ("## Here\n```console\n$ x\n```\n```console\noutput\n```\n", "line 6: a session begins"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_no_empty_session(document, message):
    with pytest.raises(ValueError, match=message):
        steps(document, "Here")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("", ""),
        ("a\nb", "a\nb\n"),
        ("a", "a  \r\n"),
        ("...", ""),
        ("...", "a\nb"),
        ("a\n...", "a"),
        ("a\n...\nd", "a\nb\nc\nd"),
        ("a\n...\n...\nd", "a\nd"),
        ("...\nb\nc\n...\ne\n...", "a\nb\nb\nc\nd\ne"),
        ("...\nz", "z\ny\nz"),
        ("took ... s", "took 1.5 s"),
        ("... (x) ...", "a (x) b"),
        ("run ...   (docs)", "run ...   (docs)"),
        ("a\n\nb", "a\n\nb"),
    ],
)
def test_answers_as_shown(shown, printed):
    assert difference(shown.splitlines(), printed) == ""


@pytest.mark.parametrize(
    ("shown", "printed", "told"),
    [
        ("", "a", "'a' is printed and not shown"),
        ("a", "", "'a' is missing"),
        ("a", "b", "'a' is shown, 'b' is printed"),
        ("a", "ab", "'a' is shown"),
        ("a", "a\nb", "'b' is printed and not shown"),
        ("a\nb", "a\nx\nb", "'b' is shown, 'x' is printed"),
        ("b\na", "a\nb", "'b' is shown"),
        ("a\n...", "x\na", "'a' is shown, 'x' is printed"),
        ("...\na", "a\nx", "'a' is shown, 'x' is printed"),
        ("...\nb\n...\na\n...", "a\nb", "nowhere behind line 2: 'a'"),
        ("...\nb\nc\n...", "b\nx\nc", "nowhere behind line 0: 'b' and the 1 lines"),
        ("a\n...\na", "a", "too short"),
        ("took ... s", "took 1.5 ms!", "'took ... s' is shown"),
        ("a.c", "abc", "'a.c' is shown"),
        ("a\n\nb", "a\nb", "'' is shown"),
    ],
)
def test_answers_that_are_others(shown, printed, told):
    assert told in difference(shown.splitlines(), printed)


def shown(command: str) -> tuple[str, ...]:
    return next(
        step.shown for step in steps((ROOT / "README.md").read_text(encoding="utf-8"), HEADING) if step.command == command
    )


def test_the_readme_shows_what_the_verbs_say_today():
    """What the test on a VM finds out after two boots, as far as it can be known without."""
    seconds = {"heartbeat": 1.0, "userspace": 2.0, "docker": 3.0}
    report = BootReport(
        *("default", "default", "kvm", "works", "7.3.4-cofferdam", seconds, {}, "tcp://127.0.0.1:1", Path("/c")),
        **{"context": "cofferdam", "current": True, "shares": ("/home/me",)},
    )
    assert difference(shown("./inv boot"), "\n".join(["boot           done    3.1 s", *report.lines()])) == ""
    stopped = StopReport("default", "guest", 2.1, "cofferdam", "default")
    assert difference(shown("./inv stop"), stopped.line()) == ""
