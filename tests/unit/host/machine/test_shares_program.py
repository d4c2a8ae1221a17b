"""Which virtiofsd shares directories: this machine's when it is new enough, else Debian's from the cache; and who can have none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cofferdam.cache import only_cached
from cofferdam.errors import HostError
from cofferdam.guestconfig import Share
from cofferdam.machine.prepare import _sharing
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.shares import program
from cofferdam.machine.shares.choice import Choice
from cofferdam.progress import Progress

QUIET = Progress(quiet=True)
SHELL = shutil.which("sh")


class Machine:
    """Programs of the test's own, all that there are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.script("unshare", "exit 0")

    def script(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{SHELL}\n{text}\n")
        path.chmod(0o755)
        return path


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(program, "_PLACES", (str(tmp_path / "libexec/virtiofsd"),))
    return Machine(Path(os.environ["PATH"]))


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stage makes, made by hand where the stage looks for it."""
    with only_cached() as asked, pytest.raises(HostError):
        program.virtiofsd(QUIET)
    (path,) = asked
    for name in ("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "usr/libexec/virtiofsd"):
        (path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "tree" / name).touch()
    return path / "tree"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("echo virtiofsd 1.13.0", (1, 13)),
        ("echo virtiofsd 1.13.2", (1, 13)),
        ("echo virtiofsd 2.0", (2, 0)),
        ("echo virtiofsd 1.9.1; exit 1", (1, 9)),
        ("echo 'virtiofsd version 7.2.0 (Debian 1:7.2+dfsg-7)'; echo using FUSE kernel interface version 7.36", None),
        ("echo virtiofsd backend 1.13.0", None),
        ("echo virtiofsd 1", None),
        ("echo unknown option --version >&2; exit 1", None),
        ("exit 0", None),
    ],
)
def test_a_version_is_read_and_old_qemus_has_none(machine, text, found):
    assert program.version([str(machine.script("virtiofsd", text))]) == found


def test_what_cannot_be_started_has_no_version(machine):
    assert program.version(["/nowhere/virtiofsd"]) is None


@pytest.mark.parametrize("number", ["1.13.0", "1.13", "1.20.3", "2.0.0"])
@pytest.mark.parametrize("place", ["virtiofsd", "../libexec/virtiofsd"])
def test_this_machines_own_is_taken_when_it_is_new_enough(machine, place, number):
    path = machine.script(place, f"echo virtiofsd {number}")
    (found,) = program.virtiofsd(QUIET)
    assert Path(found).samefile(path)
    assert program.installed() == [found]


@pytest.mark.parametrize("text", ["echo virtiofsd 1.12.9", "echo virtiofsd 0.99", "echo virtiofsd version 7.2.0", "exit 1"])
def test_another_than_a_new_enough_one_is_passed_over(machine, tmp_path, text, tree):
    machine.script("virtiofsd", text)
    assert program.installed() == []
    assert program.virtiofsd(QUIET)[-1] == str(tree / "usr/libexec/virtiofsd")
    other = machine.script("../libexec/virtiofsd", "echo virtiofsd 1.13.0")
    (found,) = program.virtiofsd(QUIET)
    assert Path(found).samefile(other), "an old one on PATH does not hide a good one elsewhere"


def test_the_tree_runs_with_its_own_loader_and_libraries(tree):
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    assert program.virtiofsd(QUIET) == [
        str(libraries / "ld-linux-x86-64.so.2"),
        "--library-path",
        str(libraries),
        str(tree / "usr/libexec/virtiofsd"),
    ]


def refused() -> HostError:
    with pytest.raises(HostError) as error:
        program.virtiofsd(QUIET)
    assert "`inv boot --share none`" in error.value.hint
    return error.value


def test_without_unshare_there_is_none(machine, tree):
    (machine.directory / "unshare").unlink()
    error = refused()
    assert str(error) == "`unshare` is not installed"
    assert "Install util-linux" in error.hint


def test_who_cannot_make_user_namespaces_has_none_and_root_needs_none(machine, tree, monkeypatch):
    machine.script("unshare", 'case "$*" in *--user*) exit 1; esac')
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert program.virtiofsd(QUIET)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    error = refused()
    assert str(error) == "this user cannot make user namespaces, in which directories are shared"
    assert "kernel.unprivileged_userns_clone" in error.hint
    machine.script("unshare", "exit 0")
    assert program.virtiofsd(QUIET)


def test_user_namespaces_are_tried_as_the_server_will_use_them(machine, tree, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    machine.script("unshare", f'echo "$*" >{tmp_path}/tried')
    program.virtiofsd(QUIET)
    assert (tmp_path / "tried").read_text().split() == [*program.apart(1000)[1:], "true"]
    assert program.apart(1000) == ["unshare", "--mount", "--user", "--map-root-user"]
    assert program.apart(0) == ["unshare", "--mount"]


def test_one_that_cannot_be_had_is_an_error_that_says_why_and_how_else(machine):
    """mmdebstrap is missing, as is everything here."""
    machine.script("virtiofsd", "echo virtiofsd version 7.2.0")
    error = refused()
    assert str(error).startswith("there is no virtiofsd to share directories with: ")
    assert error.hint.startswith("Install virtiofsd 1.13 or later. ")
    assert error.log is not None
    assert error.log.exists()


def test_what_was_asked_for_is_an_error_and_what_was_not_is_a_note(machine, tmp_path):
    (machine.directory / "unshare").unlink()
    chosen = Choice((Share(str(tmp_path), tag="share0"),), {}, ("before",))
    with pytest.raises(HostError, match="`unshare` is not installed"):
        _sharing(BootSettings(shares=("/tmp/x",)), chosen, QUIET)
    told = Choice(notes=("before", "no directory is shared: `unshare` is not installed"))
    assert _sharing(BootSettings(), chosen, QUIET) == (told, ())


def test_nothing_shared_needs_no_server(machine):
    (machine.directory / "unshare").unlink()
    nothing = Choice(notes=("told",))
    assert _sharing(BootSettings(shares=()), nothing, QUIET) == (nothing, ())
