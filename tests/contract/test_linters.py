"""The linters are tests: what they find fails the suite like any other error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cofferdam.paths import ROOT

GUEST = ROOT / "vm/guest/src"
# lint-imports is a console script only: its package has no __main__.
LINT_IMPORTS = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]

# What runs on other systems as well, where this machine never runs it: names that Python lacks there are at least found.
MACHINE = ROOT / "src/cofferdam/machine"
NAMES = (
    "hosts",
    "hyperv",
    "accel.py",
    "boot.py",
    "channels.py",
    "cmdline.py",
    "credentials.py",
    "facts.py",
    "hostos.py",
    "instance.py",
)
PORTABLE = [
    "--follow-imports=silent",
    *(str(MACHINE / name) for name in (*NAMES, "launch.py", "qmp.py", "ready.py", "stop.py")),
    str(ROOT / "src/cofferdam/run.py"),
]


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(GUEST), "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("-m", "ruff", "check", "."), id="ruff"),
        pytest.param(("-m", "ruff", "format", "--check", "."), id="format"),
        pytest.param(("-m", "mypy"), id="mypy"),
        # Side by side on one cache, each would read what another system has.
        pytest.param(("-m", "mypy", "--platform", "win32", "--cache-dir", ".mypy_cache/win32", *PORTABLE), id="mypy-windows"),
        pytest.param(("-m", "mypy", "--platform", "darwin", "--cache-dir", ".mypy_cache/darwin", *PORTABLE), id="mypy-macos"),
    ],
)
def test_linter_finds_nothing(words):
    done = tool(sys.executable, *words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_contracts_hold():
    done = tool(*LINT_IMPORTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("files", "broken"),
    [
        ({"linux/low.py": "from cofferdam_guest.runtime import high", "runtime/high.py": ""}, "inside the guest"),
        ({"runtime/high.py": "import cofferdam_guest.agent.other", "agent/other.py": ""}, "inside the guest"),
        (
            {"runtime/one.py": "def f(): from cofferdam_guest.runtime import two", "runtime/two.py": "from . import one"},
            "no import cycles",
        ),
        ({"runtime/one.py": "def f():\n    import pydantic"}, "the guest never imports"),
    ],
)
def test_import_contracts_can_fail(tmp_path, files, broken):
    """The contracts of this project, held against a guest that breaks one of them."""
    package = tmp_path / "cofferdam_guest"
    for name in ("runtime", "agent", "apiproxy", "policyload", "idrange", "config", "linux"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    for name in ("__init__.py", "below.py"):
        (package / name).touch()
    for name, text in files.items():
        (package / name).write_text(text + "\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "200"}
    words = [*LINT_IMPORTS[:2], LINT_IMPORTS[2].replace("_command()", "_command(['--config', sys.argv[1], '--no-cache'])")]
    words[2] = f"import sys; {words[2]}"
    done = subprocess.run([*words, ROOT / "pyproject.toml"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 broken" in done.stdout
    assert any(line.startswith(broken) and line.endswith("BROKEN") for line in done.stdout.splitlines()), done.stdout
