"""The machine itself: Python, what it can build, namespaces, ids, memory, clock."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from cofferdam.doctor.model import Finding, fail, is_root, ok, warn
from cofferdam.doctor.programs import PATIENCE
from cofferdam.paths import ROOT, cache_home
from cofferdam.run import run

OLDEST_PYTHON = (3, 11)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))
MEMINFO = Path("/proc/meminfo")
SYSCTL = Path("/proc/sys")

_IDS = 65536
_MEMORY_MIB = 3072
_DAY = 86400
_NOT_NEEDED = "not needed: this is root"
_MACHINES = {"x86_64", "amd64"}

# Setting of the kernel, value that forbids user namespaces to ordinary users, value that allows them.
_FORBIDS = (
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user/max_user_namespaces", "0", "15000"),
)


def python() -> Finding:
    """This interpreter, new enough."""
    found = f"{platform.python_version()} ({sys.executable})"
    return ok(found) if sys.version_info[:2] >= OLDEST_PYTHON else fail(f"{found} is too old")


def build_host() -> Finding:
    """Images are built on Linux on x86_64; other systems boot what was built there."""
    machine = platform.machine().lower()
    found = f"{platform.system()} on {machine}"
    if sys.platform != "linux":
        return warn(f"{found}: building needs Linux on x86_64", "Build on Linux and copy the image, or build in a Linux VM.")
    return ok(found) if machine in _MACHINES else fail(f"{found}: the image is for x86_64 and is built on it")


def keyring() -> Finding:
    """The keys that Debian's archive is signed with."""
    return ok(str(KEYRING)) if KEYRING.is_file() else fail(f"{KEYRING} is not there")


def namespaces() -> Finding:
    """The tools tree runs in namespaces of its own: the same ones are made here, and left."""
    if shutil.which("unshare") is None:
        return fail("not known without unshare", "Mend `unshare` first.")
    own = () if is_root() else ("--user", "--map-root-user")
    result = run(["unshare", "--mount", "--net", *own, "true"], capture=True, check=False, timeout=PATIENCE)
    if result.returncode == 0:
        return ok("mount and network namespaces can be made" + (" in a user namespace" if own else ""))
    words = result.stderr.strip() or f"unshare ended with status {result.returncode}"
    if is_root():
        return fail(words, "Root is confined here: run outside of the container, or start that one with --privileged.")
    blockers = [(name.replace("/", "."), good) for name, bad, good in _FORBIDS if _setting(name) == bad]
    reasons = [words, *(f"{name} should be {good}" for name, good in blockers)]
    return fail("; ".join(reasons), " && ".join(f"sudo sysctl -w {name}={good}" for name, good in blockers))


def _setting(name: str) -> str:
    path = SYSCTL / name
    return path.read_text(encoding="ascii").strip() if path.exists() else ""


def newuidmap() -> Finding:
    """The program that lets an ordinary user have more ids than one."""
    if is_root():
        return ok(_NOT_NEEDED)
    path = shutil.which("newuidmap")
    return ok(path) if path else fail("newuidmap is not installed")


def subordinate_ids() -> Finding:
    """An ordinary user's own range of ids, in both files."""
    if is_root():
        return ok(_NOT_NEEDED)
    user = _user()
    lacking = [str(path) for path in SUBORDINATE if _range(path, user) < _IDS]
    if lacking:
        return fail(f"{user} has no {_IDS} ids in {' and '.join(lacking)}", _usermod(user))
    return ok(f"{user} has {min(_range(path, user) for path in SUBORDINATE)} ids")


def _user() -> str:
    import pwd  # not on Windows

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _usermod(user: str) -> str:
    return f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"


def _range(path: Path, user: str) -> int:
    """Length of the user's first range, the one that mmdebstrap takes; 0 when there is none."""
    rows = [line.strip().split(":") for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return next((int(row[2]) for row in rows if len(row) == 3 and row[0] == user and row[2].isdecimal()), 0)


def memory() -> Finding:
    """Room for the VM, or for the kernel's build."""
    rows = (line.partition(":") for line in MEMINFO.read_text(encoding="ascii").splitlines())
    free = next(int(value.split()[0]) // 1024 for key, _, value in rows if key == "MemAvailable")
    return (ok if free >= _MEMORY_MIB else fail)(f"{free} MiB available, {_MEMORY_MIB} MiB are wanted")


def clock() -> Finding:
    """A clock that lags makes signatures and certificates `not yet valid`: it cannot be before the project's files and images."""
    files = (path for name in ("src", "vm", "profiles") for path in (ROOT / name).rglob("*"))
    newest = max(path.lstat().st_mtime for path in chain(files, (cache_home() / "images").glob("*")))
    now = time.time()
    if now < newest - _DAY:
        return fail(f"{_date(now)}, and the project has a file or an image of {_date(newest)}")
    return ok(_date(now))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
