"""Profiles: what is shipped loads, and each kind of bad input names file, key and next step."""

import pytest

from cofferdam.errors import ProfileError
from cofferdam.profile import load_profile, profile_names

GOOD = """
description = "d"
isolation = "kernel"
packages = ["base"]
overlays = ["base"]
[kernel]
fragments = ["base"]
suites = ["s"]
"""


def test_shipped_profiles_load_and_differ_where_they_should():
    profiles = {name: load_profile(name) for name in profile_names()}
    assert {"default", "debug", "baseline"} <= set(profiles)
    assert not profiles["default"].ssh
    assert profiles["debug"].ssh
    assert profiles["debug"].isolation == "kernel"
    assert profiles["baseline"].isolation == "none"
    assert profiles["debug"].packages[: len(profiles["default"].packages)] == profiles["default"].packages


def test_unknown_profile_names_the_nearest():
    with pytest.raises(ProfileError) as error:
        load_profile("defualt")
    assert "`default`" in error.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("packages", "package"), r"p\.toml: unknown key `package`; did you mean `packages`\?"),
        (GOOD.replace("fragments", "fragment"), r"unknown key `kernel\.fragment`; did you mean `fragments`\?"),
        (GOOD.replace('isolation = "kernel"', 'isolation = "some"'), "key `isolation`"),
        (GOOD.replace('"d"', "d"), r"p\.toml:"),
        (GOOD + "\nssh = true\n", "unknown key `kernel.ssh`"),
        ('include = "q"\n', r"key `include`: q\.toml includes another profile"),
    ],
)
def test_bad_profiles_are_explained(tmp_path, text, expected):
    (tmp_path / "p.toml").write_text(text)
    (tmp_path / "q.toml").write_text('include = "r"\n')
    with pytest.raises(ProfileError, match=expected) as error:
        load_profile("p", tmp_path)
    assert error.value.hint


def test_include_merges_tables_and_appends_lists(tmp_path):
    (tmp_path / "base.toml").write_text(GOOD)
    (tmp_path / "p.toml").write_text('include = "base"\npackages_add = ["more"]\n[kernel]\nsuites = ["t"]\n')
    profile = load_profile("p", tmp_path)
    assert profile.packages == ["base", "more"]
    assert (profile.kernel.fragments, profile.kernel.suites) == (["base"], ["t"])
