"""What the doctor works with: requirements, what a probe finds, and the judged result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from cofferdam.errors import CofferdamError

Status = Literal["ok", "warn", "fail"]
EVERYWHERE = ("linux", "darwin", "win32")
LINUX = ("linux",)


@dataclass(frozen=True)
class Finding:
    """What a probe saw; `fix` is the next step where the probe knows a better one than its row."""

    status: Status
    found: str
    fix: str = ""


Probe = Callable[[], Finding]


def ok(found: str) -> Finding:
    """The requirement is met."""
    return Finding("ok", found)


def warn(found: str, fix: str = "") -> Finding:
    """The work goes on, slower or with less."""
    return Finding("warn", found, fix)


def fail(found: str, fix: str = "") -> Finding:
    """The work cannot succeed."""
    return Finding("fail", found, fix)


@dataclass(frozen=True)
class Check:
    """One requirement, judged on this machine; `fix` is empty when its status is `ok`."""

    id: str
    purpose: str
    status: Status
    found: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        """The fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Requirement:
    """One row of the table.

    Attributes:
        id: its name.
        purpose: what it is for.
        probe: looks at the machine and changes nothing.
        packages: Debian packages that mend it; data and not a function, so that one apt-get call serves every row.
        advice: the next step where neither the probe nor a package gives one.
        worst: `warn` for what the work can do without.
        systems: values of `sys.platform` that have it.
    """

    id: str
    purpose: str
    probe: Probe
    packages: tuple[str, ...] = ()
    advice: str = ""
    worst: Status = "fail"
    systems: tuple[str, ...] = EVERYWHERE

    def check(self) -> Check:
        """Probe and judge; a probe that cannot look is a requirement that is not met, with the reason."""
        try:
            finding = self.probe()
        except CofferdamError as error:
            finding = fail(str(error), error.hint)
        except OSError as error:
            finding = fail(str(error))
        status = self.worst if finding.status == "fail" else finding.status
        fix = "" if status == "ok" else finding.fix or install_line(self.packages) or self.advice
        return Check(self.id, self.purpose, status, finding.found, fix)


def is_root() -> bool:
    """Whether this process is root's; never on Windows."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def can_install() -> bool:
    """Whether packages can be installed here without asking anybody."""
    return is_root() and shutil.which("apt-get") is not None


def install_line(packages: Iterable[str]) -> str:
    """What a person does to get these Debian packages; empty when there are none."""
    names = " ".join(packages)
    if not names:
        return ""
    if shutil.which("apt-get") is None:
        return f"Install {names} (Debian's package name) with your package manager."
    return f"Run `inv doctor --fix`, or: apt-get install {names}" if is_root() else f"sudo apt-get install {names}"
