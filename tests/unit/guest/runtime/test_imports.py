"""The wrapper runs once a container: what it imports is what a start costs."""

import os
import subprocess
import sys

import pytest

import cofferdam_guest

HEAVY = {
    "argparse",
    "asyncio",
    "contextlib",
    "dataclasses",
    "email",
    "enum",
    "functools",
    "hashlib",
    "inspect",
    "json",
    "logging",
}
HEAVY |= {"pathlib", "random", "re", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "typing", "urllib"}


def loaded(program):
    """The modules that `program` loads in a bare interpreter, like the one of bin/runc."""
    (top,) = {os.path.dirname(each) for each in cofferdam_guest.__path__}
    code = f"import sys; before = set(sys.modules); sys.path.insert(0, {top!r}); {program}; print(*(set(sys.modules) - before))"
    return set(subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "program",
    [
        "from cofferdam_guest.runtime import main",
        "from cofferdam_guest.runtime import main, start",
        "from cofferdam_guest.runtime import execution",
        "from cofferdam_guest.runtime import events; events.user_line('x', 0); events.refused('a', 'b', 'c', 'd', '/nowhere')",
        "from cofferdam_guest.config import jsonlite; jsonlite.dumps(jsonlite.loads('{\"a\": [1]}'))",
    ],
)
def test_nothing_heavy_is_loaded(program):
    assert not loaded(program) & HEAVY


def test_what_is_passed_on_loads_next_to_nothing():
    ours = {each for each in loaded("from cofferdam_guest.runtime import main") if each.startswith("cofferdam_guest.")}
    assert ours == {f"cofferdam_guest.{each}" for each in ("runtime", "runtime.main", "runtime.argv", "runtime.errors")}


def test_the_check_sees_what_it_looks_for():
    assert "json" in loaded("import json")
