"""A shared directory against what programs expect of files: the rows of tests/vmtest/file*.py in containers, and this side's view of them.

COFFERDAM_SHARE_SECONDS=60 verifies random writes for a minute instead of seconds, COFFERDAM_SHARE_FILES=100000 takes that many files
instead of twenty thousand; COFFERDAM_SHARE_SEED repeats the writes of a run that failed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import vmtest
from vmtest.filenames import NAMES
from vmtest.filepair import LINES, MODULES, ROWS
from vmtest.flows import box, new_name
from vmtest.vm import Broken, Vm

pytestmark = pytest.mark.vm

SECONDS = float(os.environ.get("COFFERDAM_SHARE_SECONDS", "5"))
FILES = int(os.environ.get("COFFERDAM_SHARE_FILES", "20000"))
SEED = int(os.environ.get("COFFERDAM_SHARE_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
USERS = {"root": "0:0", "user": "1000:1000"}
CASES = [(who, name) for who, rows in ROWS.items() for name in rows]


@dataclass(frozen=True)
class Seen:
    """What the rows left.

    Attributes:
        place: the shared directory on this machine.
        said: of each user, what each row gave.
    """

    place: Path
    said: Mapping[str, Mapping[str, Any]]


def place_in(vm: Vm) -> Path:
    """A new directory in the VM's share, with the programs that containers run there."""
    assert vm.share is not None
    place = vm.share / new_name("files")
    (place / "vmtest").mkdir(parents=True)
    for name in MODULES:
        shutil.copy(Path(vmtest.__path__[0]) / f"{name}.py", place / "vmtest")
    return place


def options(place: Path, user: str = "0:0") -> list[str]:
    """Those of a container that works there."""
    return ["-v", f"{place}:/share", "-w", "/share", "--user", user, "-e", "PYTHONDONTWRITEBYTECODE=1"]


def said_by(vm: Vm, place: Path, *words: str, user: str = "0:0", timeout: float = 600) -> Any:
    """What Python printed as JSON in a container."""
    command = ["run", "--rm", *options(place, user), vm.image("debian"), "python3", *words]
    return json.loads(vm.succeed(*command, timeout=timeout))


@pytest.fixture(scope="module")
def seen(vm: Vm) -> Iterator[Seen]:
    place = place_in(vm)
    partner = ("python3", "-m", "vmtest.filepair", "partner")
    with box(vm, *options(place), image="debian", command=partner) as other:
        try:
            said = {who: said_by(vm, place, "-m", "vmtest.filepair", who, user=user) for who, user in USERS.items()}
        except AssertionError as error:
            raise Broken(f"{error}; the partner: {vm.docker('logs', other.name, check=False).stderr}") from error
    yield Seen(place, said)
    shutil.rmtree(place)


@pytest.mark.parametrize(("who", "name"), CASES, ids=[f"{who}-{name}" for who, name in CASES])
def test_what_programs_expect_of_files(seen: Seen, who: str, name: str) -> None:
    assert seen.said[who][name] == ROWS[who][name][1]


def test_this_side_sees_the_same_files(seen: Seen) -> None:
    """By contents, kinds, modes, times and holes; and everything is ours."""
    top = seen.place / "root"
    assert (top / "memory_maps/map").read_bytes()[5000:5006] == b"mapped"
    assert (top / "memory_maps/map").read_bytes()[9000:9007] == bytes(7), "a private map is the process's own"
    assert (seen.place / "together/map").read_bytes()[:106] == b"partner".ljust(100, b"\0") + b"answer"
    assert len((seen.place / "together/log").read_text().splitlines()) == 2 * LINES
    assert sorted(os.listdir(top / "directories_of_any_script")) == sorted(NAMES)
    assert (top / "nanoseconds/file").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert (top / "nanoseconds/link").lstat().st_mtime_ns == 5_000_000_007
    assert oct(stat.S_IMODE((top / "chmod/dir").stat().st_mode)) == "0o1777"
    assert stat.S_ISFIFO((top / "fifo/pipe").lstat().st_mode)
    assert stat.S_ISSOCK((top / "unix_socket/socket").lstat().st_mode)
    assert os.readlink(top / "symlink/link") == "t/" * 500
    large = (top / "beyond_four_gigabytes/large").stat()
    assert (large.st_size, large.st_blocks * 512 < 1 << 20) == ((5 << 30) + 3, True)
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in seen.place.rglob("*")}
    assert owners == {(os.getuid(), os.getgid())}


def test_the_size_of_the_file_system_is_that_of_this_machine(seen: Seen) -> None:
    facts = os.statvfs(seen.place)
    said = json.loads((seen.place / "root/file_system_facts/statvfs").read_text())
    assert said == [facts.f_blocks * facts.f_frsize, facts.f_files]


LOCK = "import fcntl; f = open('locked', 'r+'); fcntl.{call}(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print('true')"


@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_a_lock_of_this_machine_is_none_in_the_vm(vm: Vm, seen: Seen, call: str) -> None:
    """docs/shares.md says so; the day it is one, this row says that, too."""
    with open(seen.place / "locked", "w") as locked:
        getattr(fcntl, call)(locked, fcntl.LOCK_EX)
        assert said_by(vm, seen.place, "-c", LOCK.format(call=call)) is True


@pytest.fixture
def place(vm: Vm) -> Iterator[Path]:
    made = place_in(vm)
    yield made
    shutil.rmtree(made)


@pytest.mark.timeout(900 + 10 * SECONDS)
def test_random_writes_are_read_as_they_were_written(vm: Vm, place: Path) -> None:
    print(f"COFFERDAM_SHARE_SEED={SEED}")
    said = said_by(vm, place, "-m", "vmtest.fileverify", str(SECONDS), str(SEED), timeout=600 + 4 * SECONDS)
    print(said)
    assert hashlib.sha256((place / "verified").read_bytes()).hexdigest() == said["sha256"]
    assert min(said[name] for name in ("pwrite", "check", "written")) > 0


MANY = """
import json, os, shutil, time
start = time.monotonic()
found = sum(os.stat(f"{top}/{name}").st_size == 0 for top, _, files in os.walk("here") for name in files)
looked = time.monotonic()
os.mkdir("there")
for number in range(FILES // 10): open(f"there/{number}", "x").close()
made = time.monotonic()
for number in range(10): shutil.rmtree(f"here/{number}")
print(json.dumps([found, looked - start, made - looked, time.monotonic() - made]))
"""


@pytest.mark.timeout(900 + FILES / 10)
def test_many_files(vm: Vm, place: Path) -> None:
    """More than a process may have open: each is looked at; a tenth as many are made and removed there, and the server goes on."""
    for number in range(100):
        (place / f"here/{number}").mkdir(parents=True)
    for number in range(FILES):
        (place / f"here/{number % 100}/{number}").touch()
    found, looked, made, removed = said_by(vm, place, "-c", MANY.replace("FILES", str(FILES)), timeout=600 + FILES / 20)
    print(f"{FILES} files: looked at in {looked:.1f} s; {FILES // 10} made in {made:.1f} s, removed in {removed:.1f} s")
    assert found == FILES
    assert len(os.listdir(place / "there")) == FILES // 10
    assert sorted(os.listdir(place / "here"), key=int) == [str(number) for number in range(10, 100)]
