"""What two builds differ in is named, path by path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cofferdam.errors import UsageError
from cofferdam.profile import load_profile
from cofferdam.progress import Progress
from cofferdam.release.reproducible import check_reproducible, compare_trees

CHANGES = {
    "content": lambda tree: (tree / "etc/shadow").write_text("other"),
    "mode": lambda tree: (tree / "etc/shadow").chmod(0o600),
    "target": lambda tree: ((tree / "etc/link").unlink(), (tree / "etc/link").symlink_to("elsewhere")),
    "only in the first": lambda tree: (tree / "etc/shadow").unlink(),
    "only in the second": lambda tree: (tree / "etc/more").mkdir(),
}
PATHS = {"target": "/etc/link", "only in the second": "/etc/more"}


def make(tree: Path) -> Path:
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/shadow").write_text("root")
    (tree / "etc/shadow").chmod(0o640)
    (tree / "etc/link").symlink_to("shadow")
    settle(tree)
    return tree


def settle(tree: Path) -> None:
    """The time stamps that a packed tree has."""
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, ns=(0, 0), follow_symlinks=False)


def test_the_same_trees_do_not_differ(tmp_path):
    assert compare_trees(make(tmp_path / "one"), make(tmp_path / "other")) == []


@pytest.mark.parametrize("change", CHANGES)
def test_each_difference_is_named_with_its_path(tmp_path, change):
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    CHANGES[change](other)
    settle(other)
    assert compare_trees(one, other) == [f"{PATHS.get(change, '/etc/shadow')}: {change}"]


def test_time_and_kind_count_too(tmp_path):
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    os.utime(other / "etc", (5, 5))
    (other / "etc/link").unlink()
    (other / "etc/link").write_text("")
    settle(other / "etc/link")
    assert compare_trees(one, other) == ["/etc: time", "/etc/link: kind, mode, target, content"]


@pytest.mark.skipif(os.getuid() != 0, reason="changes owners")
def test_owners_count_too(tmp_path):
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    os.chown(other / "etc/shadow", 0, 42)
    assert compare_trees(one, other) == ["/etc/shadow: owner"]


@pytest.mark.parametrize(("profile", "what", "said"), [("default", "kernel", "no such part"), ("debug", "all", "ssh keys")])
def test_what_cannot_be_checked_is_refused_at_once(image, profile, what, said):
    with pytest.raises(UsageError, match=said):
        check_reproducible(load_profile(profile), image, what, Progress(quiet=True))
