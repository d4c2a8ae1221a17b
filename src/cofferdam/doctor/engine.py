"""Checks the table of requirements and, on request, installs what packages can mend."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cofferdam.doctor.model import Check, Requirement, can_install
from cofferdam.doctor.table import REQUIREMENTS
from cofferdam.progress import Progress
from cofferdam.run import CommandError, run

_APT_GET = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300")
_QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def doctor(*, fix: bool = False, requirements: Sequence[Requirement] = REQUIREMENTS) -> list[Check]:
    """Check every requirement that this system has.

    Args:
        fix: as root on a system with apt-get, install the missing packages and check again; elsewhere nothing is changed.
        requirements: the table.
    """
    rows = [row for row in requirements if sys.platform in row.systems]
    checks = [row.check() for row in rows]
    missing = sorted({name for row, check in zip(rows, checks, strict=True) if check.status != "ok" for name in row.packages})
    if not (fix and missing and can_install()):
        return checks
    _install(missing)
    return [row.check() for row in rows]


def _install(packages: list[str]) -> None:
    """Install packages; a failure is told and left to the second look, which says what is still missing."""
    progress = Progress()
    try:
        with progress.stage("doctor", f"installing {', '.join(packages)}"):
            # Without a network the lists there are may serve.
            run([*_APT_GET, "update"], env=_QUIET, capture=True, check=False)
            run([*_APT_GET, "install", "-y", "--no-install-recommends", *packages], env=_QUIET, capture=True)
    except CommandError as error:
        progress.line(str(error))
