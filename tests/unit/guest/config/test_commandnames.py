"""Names of a command list: Docker's own, the six wildcards, and a reason for each that is not one."""

from __future__ import annotations

import re

import pytest

from cofferdam_guest.config.commandnames import CLIENT_ONLY, GROUPS, NAMES, UNSUPPORTED, error_of, warning_of


@pytest.mark.parametrize("name", [*NAMES, *GROUPS])
def test_names_and_wildcards_are_good(name):
    assert (error_of(name), warning_of(name)) == ("", "")


def test_there_are_six_wildcards():
    assert set(GROUPS) == {"container*", "image*", "volume*", "network*", "build*", "system*"}


@pytest.mark.parametrize("name", UNSUPPORTED)
@pytest.mark.parametrize("end", ["", "*"])
def test_what_dockers_documentation_excludes_has_its_own_text(name, end):
    assert "is not supported in a command list" in error_of(name + end)


@pytest.mark.parametrize("name", CLIENT_ONLY)
def test_what_never_reaches_the_engine_is_a_warning(name):
    assert error_of(name) == ""
    assert "no effect" in warning_of(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("psu", 'did you mean "ps"'),
        ("Push", 'did you mean "push"'),
        ("image", 'write "image\\*"'),
        ("volume", 'write "volume\\*"'),
        ("swarm*", "not one of the wildcards"),
        ("*", "not one of the wildcards"),
        ("container ls", "docker --help|did you mean"),
        ("", "docker --help"),
    ],
)
def test_other_names_are_errors_that_help(name, says):
    assert re.search(says, error_of(name))


def test_no_name_is_in_two_lists():
    names = [*NAMES, *GROUPS, *CLIENT_ONLY, *UNSUPPORTED]
    assert len(names) == len(set(names))
