"""Who may import whom, read off the source where import-linter cannot see: single modules and the standard library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam.paths import ROOT

HOST = ROOT / "src"
GUEST = ROOT / "vm/guest/src"


def imported(path: Path) -> Iterator[str]:
    """Full names of what a module imports anywhere in it; there are no relative imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield node.module or ""


@pytest.mark.parametrize("path", sorted(GUEST.rglob("*.py")), ids=lambda path: str(path.relative_to(GUEST)))
def test_guest_needs_only_the_standard_library(path):
    roots = {name.partition(".")[0] for name in imported(path)}
    # Debian's python3-h11, for the API proxy alone
    debian = {"h11"} if "apiproxy" in path.parts else set()
    assert roots <= {"cofferdam_guest", *debian, *sys.stdlib_module_names}


def test_nothing_imports_the_menu_or_the_tests():
    wrong = {
        (str(path), name)
        for path in HOST.rglob("*.py")
        for name in imported(path)
        if name.split(".")[0] in ("tasks", "tests", "vmtest")
    }
    assert not wrong


def test_menu_imports_the_host_package_only():
    roots = {name.partition(".")[0] for name in imported(ROOT / "tasks.py")}
    assert roots <= {"cofferdam", "invoke", *sys.stdlib_module_names}


def test_only_the_runner_knows_subprocess():
    users = {str(path.relative_to(HOST)) for path in HOST.rglob("*.py") if "subprocess" in imported(path)}
    assert users == {"cofferdam/run.py"}
