"""What `inv test` asks of pytest, and what a report calls itself."""

from __future__ import annotations

import pytest

from cofferdam import testing
from cofferdam.checkout import Checkout
from cofferdam.errors import HostError

COMMIT = "c" * 40


@pytest.fixture
def asked(monkeypatch):
    """The words of the latest call of pytest."""
    words: list[str] = []
    monkeypatch.setattr(testing, "interactive", lambda argv, **_: words.__setitem__(slice(None), argv) or 0)
    return words


def at(monkeypatch, *changed):
    monkeypatch.setattr(testing, "read_checkout", lambda: Checkout(COMMIT, 1, changed))


def named(words):
    (found,) = [word for word in words if word.startswith("--override-ini=junit_suite_name=")]
    return found.rpartition("=")[2]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, f"cofferdam {COMMIT} all"),
        ({"extra": "--junitxml=report.xml"}, f"cofferdam {COMMIT} all"),
        ({"unit_only": True}, f"cofferdam {COMMIT} some"),
        ({"select": "volumes"}, f"cofferdam {COMMIT} some"),
        ({"extra": "--junitxml=report.xml tests/unit"}, f"cofferdam {COMMIT} some"),
        ({"extra": "--junitxml=report.xml --deselect=x"}, f"cofferdam {COMMIT} some"),
    ],
)
def test_a_report_says_whether_it_is_of_all_tests(asked, monkeypatch, options, name):
    at(monkeypatch)
    testing.run_tests(**options)
    assert named(asked) == name


def test_a_report_says_that_the_commit_was_changed(asked, monkeypatch):
    at(monkeypatch, "src/new.py")
    testing.run_tests()
    assert named(asked) == f"cofferdam {COMMIT}+ all"


def test_without_git_nobody_knows_what_was_tested(asked, monkeypatch):
    def fails():
        raise HostError("no checkout")

    monkeypatch.setattr(testing, "read_checkout", fails)
    testing.run_tests()
    assert named(asked) == "cofferdam unknown some"
