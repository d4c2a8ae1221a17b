"""The lock in the repository holds every tree, and every package that a list names."""

from __future__ import annotations

import re

import pytest

from cofferdam.kernel.source import locked_candidate
from cofferdam.release.lock import trees
from cofferdam.tools.lock import KERNEL_SOURCE, LOCKS, Lock, read_lock, write_lock

TREES = trees()


def test_the_lock_has_a_file_for_each_tree_and_no_other():
    assert {path.stem for path in LOCKS.glob("*")} == {KERNEL_SOURCE, *(tree.name for tree in TREES)}


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_what_the_lists_name_is_locked(tree):
    Lock().pinned(tree.name).require_names(tree.packages)


@pytest.mark.parametrize("name", sorted({KERNEL_SOURCE, *(tree.name for tree in TREES)}))
def test_a_lock_is_as_it_would_be_written(tmp_path, name):
    contents = read_lock(name)
    assert contents.packages and all(re.fullmatch(r"[0-9a-f]{64}", each.sha256) for each in contents.packages)
    write_lock(name, contents, tmp_path)
    assert (tmp_path / f"{name}.json").read_text() == (LOCKS / f"{name}.json").read_text()


def test_one_kernel_source_is_locked():
    assert re.fullmatch(r"linux-source-\d+\.\d+", locked_candidate(read_lock(KERNEL_SOURCE)).package)
