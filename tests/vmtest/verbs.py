"""The verbs as a user types them, without a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from cofferdam.paths import ROOT
from vmtest.machines import BOOT_TIMEOUT

SMALL = ("--memory", "1G", "--data-disk", "2G", "--timeout", str(BOOT_TIMEOUT))
"""Options of `inv boot` for a machine that has little to do."""


def inv(*words: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a verb; its status and output."""
    command = [sys.executable, "-m", "invoke", *words]
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


def done(*words: str) -> str:
    """Run a verb, which must succeed; what it printed."""
    result = inv(*words)
    assert result.returncode == 0, f"`inv {' '.join(words)}` ended with {result.returncode}: {result.stderr}{result.stdout}"
    return result.stdout


def row(name: str) -> dict[str, Any]:
    """An instance's row of `inv status --json`."""
    found: dict[str, Any] = json.loads(done("status", "--name", name, "--json"))[0]
    return found
