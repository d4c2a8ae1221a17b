"""Fragments: what is accepted, what is refused and in which words, and the project's own ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from cofferdam.kernel.fragments import FRAGMENT_DIR, FragmentError, fragment_paths, merge, parse_config, render
from cofferdam.profile import load_profile, profile_names


def write(directory: Path, **fragments: str) -> list[Path]:
    for name, body in fragments.items():
        (directory / f"{name}.config").write_text(f"# Why: a test\n{body}\n", encoding="utf-8")
    return fragment_paths(fragments, directory)


def test_values_of_every_kind_are_read_and_rendered(tmp_path: Path) -> None:
    options = merge(write(tmp_path, one='CONFIG_Z=y\n# CONFIG_A is not set\n\n# words\nCONFIG_NAME="x y"', two="CONFIG_N=-1"))
    assert {option.name: option.value for option in options} == {"Z": "y", "A": "n", "NAME": '"x y"', "N": "-1"}
    assert render(options) == '# CONFIG_A is not set\nCONFIG_N=-1\nCONFIG_NAME="x y"\nCONFIG_Z=y\n'


def test_order_of_fragments_does_not_change_the_result(tmp_path: Path) -> None:
    one, two = write(tmp_path, one="CONFIG_A=y", two="CONFIG_B=y")
    assert render(merge([one, two])) == render(merge([two, one]))


@pytest.mark.parametrize(
    ("second", "verb"), [("CONFIG_NET=y", "repeats"), ("CONFIG_NET=m", "contradicts"), ("# CONFIG_NET is not set", "contradicts")]
)
def test_an_option_in_two_fragments_names_both(tmp_path: Path, second: str, verb: str) -> None:
    paths = write(tmp_path, first="CONFIG_NET=y", second=f"CONFIG_OTHER=y\n{second}")
    with pytest.raises(FragmentError, match=verb) as caught:
        merge(paths)
    assert "first.config:2" in str(caught.value)
    assert "second.config:3" in str(caught.value)


def test_an_option_twice_in_one_fragment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FragmentError, match=r"one\.config:3.*repeats one\.config:2"):
        merge(write(tmp_path, one="CONFIG_A=y\nCONFIG_A=y"))


@pytest.mark.parametrize("line", ["CONFIG_A", "CONFIG_A =y", "A=y", "#CONFIG_A is not set", "CONFIG_A=", "=y"])
def test_a_line_that_is_no_option_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(FragmentError, match=r"one\.config:3: not an option"):
        merge(write(tmp_path, one=f"CONFIG_B=y\n{line}"))


@pytest.mark.parametrize("first", ["", "CONFIG_A=y", "# Why:", "# Because"])
def test_a_fragment_without_its_reason_is_refused(tmp_path: Path, first: str) -> None:
    path = tmp_path / "bare.config"
    path.write_text(first, encoding="utf-8")
    with pytest.raises(FragmentError, match="starts with"):
        merge([path])


def test_an_unknown_fragment_lists_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path, net="CONFIG_NET=y")
    with pytest.raises(FragmentError) as caught:
        fragment_paths(["nett"], tmp_path)
    assert "nett.config" in str(caught.value)
    assert "net" in caught.value.hint


def test_a_complete_configuration_is_read() -> None:
    text = "#\n# Automatically generated file; DO NOT EDIT.\n#\nCONFIG_A=y\n# CONFIG_B is not set\n# end of menu\n"
    assert parse_config(text) == {"A": "y", "B": "n"}


def test_the_fragments_of_every_profile_merge() -> None:
    for name in profile_names():
        options = merge(fragment_paths(load_profile(name).kernel.fragments))
        assert {"USER_NS", "OVERLAY_FS", "VIRTIO_BLK"} <= {option.name for option in options}


def test_all_fragments_of_the_project_merge_and_none_is_left_unread() -> None:
    stems = [path.stem for path in FRAGMENT_DIR.glob("*.config")]
    assert len(stems) >= 8
    merge(fragment_paths(stems))


def test_no_profile_uses_the_debug_fragment() -> None:
    assert (FRAGMENT_DIR / "debug.config").is_file()
    assert not [name for name in profile_names() if "debug" in load_profile(name).kernel.fragments]
