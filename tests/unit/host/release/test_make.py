"""A release is made by its own steps, from an image made by hand: only building and booting, which take minutes, are left out."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cofferdam import deliververbs
from cofferdam.bench.model import Figure, Report
from cofferdam.checkout import Checkout
from cofferdam.errors import BootError, BuildError, UsageError
from cofferdam.image.model import open_image
from cofferdam.progress import Progress
from cofferdam.release import steps as table
from cofferdam.release.boottest import BootProof, isolated, judged
from cofferdam.release.keys import load_signing_key
from cofferdam.release.make import make_release, plan_release
from cofferdam.release.order import Order, Source
from cofferdam.release.packing import unpacked_directory
from cofferdam.release.testreport import TestsRefusedError
from cofferdam.release.verify import trusted
from cofferdam.tools.lock import Lock
from vmtest.releases import COMMIT, EPOCH, make_image

QUIET = Progress(quiet=True)
KERNEL = "7.3.4-cofferdam"
REPORT = '<testsuites><testsuite name="cofferdam {} all" tests="9" failures="{}" errors="0" skipped="2" time="60"/></testsuites>'
ALL = [
    *("build-default", "artefact-default-direct", "boot-default-direct"),
    *("tests", "bench", "packages", "notes", "folder", "verified"),
]


class Killed(BaseException):
    """The end of a run that cleans nothing up."""


class Desk:
    """An order, and the steps with what takes minutes left out; counts what is done."""

    def __init__(self, home: Path, directory: Path, image: Path) -> None:
        self.done: list[str] = []
        self.ends_in = ""
        self.image = image
        (directory / "report.xml").write_text(REPORT.format(COMMIT, 0))
        figures = Report(machine="m", accelerator="tcg", kernel=KERNEL, taken="2026-11-01", runs=3)
        figures.figures.append(Figure(name="root image", unit="MB", value=118.0, goal=150))
        (directory / "latest.json").write_text(figures.model_dump_json())
        self.order = Order(
            version="1.2.0",
            source=Source(Checkout(COMMIT, EPOCH, ()), "- Something new."),
            profiles=("default",),
            formats=("direct",),
            target=directory / "out/cofferdam-1.2.0",
            lock=Lock(),
            key=load_signing_key(home / "keys/release.key"),
            tests=directory / "report.xml",
            bench=directory / "latest.json",
        )

    def steps(self) -> list[Any]:
        return [replace(step, make=self.counted(step)) for step in table.STEPS]

    def counted(self, step):
        def make(state, subject, directory):
            if subject and step.name != "boot":
                # in the place of the build
                state.images["default"] = open_image(self.image)
            if step.name == "boot":
                proof = BootProof(accelerator="tcg", kernel=KERNEL, seconds=24.1, uid_map="0 100000 65536")
                (directory / "boot.json").write_text(proof.model_dump_json())
            else:
                step.make(state, subject, directory)
            if self.ends_in == step.name:
                raise Killed
            self.done.append("-".join((step.name, *subject)))

        return make

    def run(self, until="", **changes):
        self.done = []
        return make_release(replace(self.order, **changes), QUIET, until=until, steps=self.steps())


@pytest.fixture
def desk(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table, "read_checkout", lambda: Checkout(COMMIT, EPOCH, ()))
    return Desk(home, tmp_path, make_image(tmp_path / "image").directory)


def test_a_release_is_made_and_verifies_with_what_it_says(desk, keys):
    assert [each.name for each in desk.run()] == desk.done == ALL
    folder = desk.order.target
    manifest = trusted(folder, keys / "allowed_signers")
    assert (manifest.version, manifest.commit, manifest.artefacts[0].kernel) == ("1.2.0", COMMIT, KERNEL)
    assert manifest.notes
    names = {path.name for path in folder.iterdir()}
    assert {"NOTES.md", "cofferdam-1.2.0-default-direct.tar", "cofferdam-1.2.0-default.cdx.json"} < names
    with tarfile.open(folder / "cofferdam-1.2.0-default-direct.tar") as tar:
        assert {"vmlinuz", "root.erofs", "manifest.json", "packages.json"} <= set(tar.getnames())
    notes = (folder / "NOTES.md").read_text()
    for text in ("# Cofferdam 1.2.0", "- Something new.", f"`{COMMIT}`", KERNEL, "24.1 s (tcg)", "`0 100000 65536`"):
        assert text in notes
    assert "7 tests passed, 2 were left out" in notes
    assert "| root image | 118 MB |" in notes
    assert "{{" not in notes and "2026-09-21" in notes
    assert [path.name for path in folder.parent.iterdir()] == ["cofferdam-1.2.0"]
    with pytest.raises(UsageError, match="is there already"):
        desk.run()


def test_killed_in_every_step_it_is_made_all_the_same_and_nothing_is_done_twice(desk, keys):
    for number, step in enumerate(table.STEPS):
        desk.ends_in = step.name
        with pytest.raises(Killed):
            desk.run()
        assert desk.done == (ALL[number - 1 : number] if number else [])
        assert not desk.order.target.exists()
    desk.ends_in = ""
    desk.run()
    assert desk.done == ALL[-1:]
    trusted(desk.order.target, keys / "allowed_signers")


def test_one_machine_builds_and_another_one_signs(desk, keys, tmp_path):
    with pytest.raises(UsageError, match="no key was named"):
        desk.run(key=None)
    assert not desk.order.work.exists()
    desk.run(until="boot", key=None, tests=None, bench=None)
    assert desk.done == ALL[:3]
    elsewhere = replace(desk.order, target=tmp_path / "elsewhere/cofferdam-1.2.0")
    shutil.copytree(desk.order.work, elsewhere.work)
    planned = plan_release(elsewhere, QUIET, steps=desk.steps())
    assert [each.name for each in planned if each.kept] == ALL[:3]
    desk.done = []
    make_release(elsewhere, QUIET, steps=desk.steps())
    assert desk.done == ALL[3:]
    trusted(elsewhere.target, keys / "allowed_signers")


def test_an_artefact_that_was_changed_after_its_boot_is_made_and_booted_again(desk):
    desk.run(until="boot")
    path = desk.order.work / "artefact-default-direct/cofferdam-1.2.0-default-direct.tar"
    path.write_bytes(path.read_bytes()[:-512])
    desk.run(until="boot")
    assert desk.done == ["artefact-default-direct"]
    # another one than before is booted again
    with (desk.image / "packages.json").open("a") as file:
        file.write("\n")
    shutil.rmtree(desk.order.work / "artefact-default-direct")
    desk.run(until="boot")
    assert desk.done == ["artefact-default-direct", "boot-default-direct"]


def test_failed_tests_are_refused_before_anything_is_made(desk):
    desk.order.tests.write_text(REPORT.format(COMMIT, 1))
    with pytest.raises(TestsRefusedError, match="1 tests failed"):
        desk.run()
    desk.order.tests.write_text(REPORT.format("d" * 40, 0))
    with pytest.raises(TestsRefusedError, match="is not of all tests"):
        desk.run()
    assert desk.done == [] and not desk.order.work.exists()


def test_a_tree_that_changed_meanwhile_is_refused(desk, monkeypatch):
    monkeypatch.setattr(table, "read_checkout", lambda: Checkout(COMMIT, EPOCH, ("src/new.py",)))
    with pytest.raises(UsageError, match="not as committed"):
        desk.run()
    assert not desk.order.target.exists()


def test_a_step_that_does_not_exist_is_refused(desk):
    with pytest.raises(UsageError, match="--until never") as raised:
        desk.run(until="never")
    assert "verified" in raised.value.hint


def test_the_plan_makes_nothing(desk):
    planned = plan_release(replace(desk.order, key=None), QUIET, steps=desk.steps())
    assert [(each.name, each.kept) for each in planned] == [(name, False) for name in ALL]
    assert not desk.order.work.exists()


@pytest.mark.parametrize(
    ("mapped", "good"),
    [
        ("         0     100000      65536\n", True),
        ("         0          0 4294967295\n", False),
        ("         0       1000      65536\n", False),
        ("         0     100000          1\n", False),
        ("         0     100000      65536\n     65536     300000          1\n", False),
        ("", False),
        ("permission denied", False),
    ],
)
def test_only_a_range_of_its_own_proves_isolation(mapped, good):
    assert isolated(mapped) is good


def test_another_kernel_or_a_container_that_is_not_isolated_is_no_proof():
    report = SimpleNamespace(kernel=KERNEL, accelerator="tcg", seconds={"docker": 24.06})
    good = "         0     100000      65536\n"
    assert judged(report, good, KERNEL, "guest") == BootProof(
        accelerator="tcg", kernel=KERNEL, seconds=24.1, uid_map="0 100000 65536"
    )
    with pytest.raises(BootError, match="boots the kernel"):
        judged(report, good, "7.4", "guest")
    with pytest.raises(BootError, match="is not isolated"):
        judged(report, "0 0 4294967295", KERNEL, "guest")
    with pytest.raises(BootError, match="did not power itself off"):
        judged(report, good, KERNEL, "killed")


def archive(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
        tar.addfile(entry)
    return path


def test_an_archive_holds_plain_files_or_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    unpacked_directory(archive(tmp_path / "a.tar", "vmlinuz"), tmp_path / "out")
    for name, kind in (("../x", b"0"), ("/x", b"0"), ("a/b", b"0"), (".x", b"0"), ("x", tarfile.SYMTYPE), ("x", tarfile.CHRTYPE)):
        with pytest.raises(BuildError, match="which no image does"):
            unpacked_directory(archive(tmp_path / "a.tar", name, kind), tmp_path / "out")
    (tmp_path / "a.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(BuildError, match=r"a\.tar"):
        unpacked_directory(tmp_path / "a.tar", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vmlinuz"]


def test_a_key_may_come_from_the_environment(keys, monkeypatch):
    monkeypatch.setenv("RELEASE_KEY", (keys / "release.key").read_text().rstrip("\n"))
    found = deliververbs.signing_key("env:RELEASE_KEY")
    assert found.public_key() == deliververbs.signing_key(str(keys / "release.key")).public_key()
    monkeypatch.setenv("RELEASE_KEY", "")
    with pytest.raises(UsageError, match="the variable is not set"):
        deliververbs.signing_key("env:RELEASE_KEY")
    monkeypatch.setenv("RELEASE_KEY", "no key")
    with pytest.raises(UsageError, match="env:RELEASE_KEY"):
        deliververbs.signing_key("env:RELEASE_KEY")


def test_publish_and_fetch_from_the_menu_name_what_is_wrong(folder, keys, tmp_path):
    with pytest.raises(UsageError, match="is no reference of a registry"):
        deliververbs.fetch("cofferdam:1.2.0", str(tmp_path / "got"))
    with pytest.raises(UsageError, match="neither which version"):
        deliververbs.fetch("registry.example.com/cofferdam", str(tmp_path / "got"))
    with pytest.raises(UsageError, match="choose a disk"):
        deliververbs.publish(str(folder), "registry.example.com/x", container_disk=False, profile="default", kind="", key="")
    (tmp_path / "got").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        deliververbs.fetch("registry.example.com/cofferdam:1", str(tmp_path / "got"))
    assert json.loads((folder / "manifest.json").read_text())["notes"] is None
