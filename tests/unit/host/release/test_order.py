"""What is refused before anything is made: a tree that is not as committed, a version that is none, reports that prove nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cofferdam.bench.model import Report
from cofferdam.checkout import ignored, read_checkout
from cofferdam.errors import BuildError, HostError, UsageError
from cofferdam.paths import ROOT
from cofferdam.release.keys import load_signing_key, new_signing_key
from cofferdam.release.order import (
    changelog_section,
    read_bench,
    require_clean,
    require_kernel,
    require_key,
    require_place,
    require_recipes,
    require_signature,
    require_source,
)
from cofferdam.release.testreport import TestsRefusedError, judge_report
from cofferdam.tools.lock import Lock

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Something new.

## [1.2.0] - 2026-11-01

- The old one.

[1.2.0]: https://example.com/1.2.0
"""


def git(root: Path, *words: str) -> None:
    settings = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", root, *settings, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (root / "CHANGELOG.md").write_text(CHANGELOG)
    (root / ".gitignore").write_text("releases/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "all")
    return root


def test_a_version_is_released_from_the_commit_and_its_section(project):
    found = require_source("1.2.0", project)
    assert found.changes == "- The old one."
    assert len(found.checkout.commit) == 40 and found.checkout.epoch > 1_700_000_000 and found.checkout.changed == ()
    assert require_source("1.2.0-rc1", project).changes == "### Added\n\n- Something new."


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.2", "is no version"),
        ("v1.2.0", "is no version"),
        ("1.2.0-", "is no version"),
        ("../1.2.0", "is no version"),
        ("1.3.0", "calls itself 1.2.0, not 1.3.0"),
    ],
)
def test_other_versions_are_refused(project, version, message):
    with pytest.raises(UsageError, match=message):
        require_source(version, project)


def test_a_version_without_a_section_is_refused():
    with pytest.raises(UsageError, match=r"says nothing of 1\.3\.0") as raised:
        changelog_section(CHANGELOG, "1.3.0")
    assert "Unreleased" in raised.value.hint
    with pytest.raises(UsageError, match="says nothing"):
        changelog_section("# Changelog\n\n## [Unreleased]\n\n## [1.2.0]\n\n- Old.\n", "1.3.0-rc1")


@pytest.mark.parametrize("name", ["new", "CHANGELOG.md", "sub/new file"])
def test_a_tree_that_is_not_as_committed_is_refused(project, name):
    path, before = project / name, (project / name).read_text() if (project / name).exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(CHANGELOG + "more")
    try:
        with pytest.raises(UsageError, match="not as committed") as raised:
            require_source("1.2.0", project)
        assert name in str(raised.value)
    finally:
        path.unlink() if before is None else path.write_text(before)
    (project / "releases").mkdir(exist_ok=True)
    (project / "releases/folder").write_text("is ignored")
    assert require_source("1.2.0", project)


def test_a_tree_at_another_commit_is_refused(project):
    found = read_checkout(project)
    assert require_clean(found, found.commit) == found
    with pytest.raises(UsageError, match=f"was at {'b' * 12}"):
        require_clean(found, "b" * 40)


def test_what_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(HostError, match="is no git checkout"):
        read_checkout(tmp_path)


def test_a_folder_that_is_there_or_inside_the_project_is_refused(project, tmp_path):
    assert ignored(project / "releases/x", project)
    assert not ignored(project / "out/x", project)
    assert ignored(tmp_path / "x", project)
    require_place(tmp_path / "new")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("there", "link"):
        with pytest.raises(UsageError, match="is there already"):
            require_place(tmp_path / name)
    if (ROOT / ".git").exists():
        with pytest.raises(UsageError, match="inside the project"):
            require_place(ROOT / "here/cofferdam-1.2.0")


@pytest.mark.parametrize(
    ("profiles", "formats", "message"),
    [
        (("debug",), ("direct",), "profile `debug` has ssh keys"),
        (("baseline",), ("direct",), "profile `baseline`"),
        (("default",), ("floppy",), "no such format"),
    ],
)
def test_recipes_that_cannot_be_released(profiles, formats, message):
    with pytest.raises(UsageError, match=message):
        require_recipes(profiles, formats, Lock())


def test_a_lock_has_to_be_there(tmp_path):
    require_recipes(("default",), ("direct",), Lock())
    with pytest.raises(BuildError, match="nothing is locked for the tree `tools`") as raised:
        require_recipes(("default",), ("direct",), Lock(tmp_path))
    assert "inv lock --update" in raised.value.hint


def test_a_key_has_to_be_there_and_to_be_one_that_is_accepted(keys, tmp_path):
    key = load_signing_key(keys / "release.key")
    assert require_signature(key) is key
    with pytest.raises(UsageError, match="no key was named"):
        require_signature(None)
    require_key(key, tmp_path / "none yet")
    require_key(key, keys / "allowed_signers")
    new_signing_key(tmp_path / "other")
    with pytest.raises(UsageError, match="does not have this key"):
        require_key(key, tmp_path / "other/allowed_signers")


def test_figures_of_another_kernel_are_refused(tmp_path):
    report = Report(machine="m", accelerator="tcg", kernel="7.3", taken="2026-11-01", runs=3)
    (tmp_path / "latest.json").write_text(report.model_dump_json())
    require_kernel(read_bench(tmp_path / "latest.json"), "7.3")
    with pytest.raises(BuildError, match=r"of the kernel 7\.3, not of 7\.4"):
        require_kernel(report, "7.4")
    (tmp_path / "latest.json").write_text("{}")
    with pytest.raises(UsageError, match="latest"):
        read_bench(tmp_path / "latest.json")


COMMIT = "c" * 40
PASSED = '<testcase classname="tests.one" name="test_a" time="0.1"/>'
FAILED = '<testcase classname="tests.one" name="test_b"><failure message="no">no</failure></testcase>'


def report(tmp_path: Path, name: str = f"cofferdam {COMMIT} all", cases: str = PASSED, **counts: object) -> Path:
    numbers = {"tests": 3, "failures": 0, "errors": 0, "skipped": 1} | counts
    words = " ".join(f'{key}="{value}"' for key, value in numbers.items() if value is not None)
    path = tmp_path / "report.xml"
    path.write_text(
        f'<?xml version="1.0"?><testsuites><testsuite name="{name}" {words} time="1.5">{cases}</testsuite></testsuites>'
    )
    return path


def test_a_report_of_this_commit_in_which_all_passed(tmp_path):
    found = judge_report(report(tmp_path), COMMIT)
    assert (found.passed, found.skipped, found.seconds) == (2, 1, 1.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": f"cofferdam {COMMIT} some"}, "is not of all tests"),
        ({"name": f"cofferdam {COMMIT}+ all"}, "is not of all tests"),
        ({"name": f"cofferdam {'d' * 40} all"}, "is not of all tests"),
        ({"name": "pytest"}, "is not of all tests"),
        ({"failures": 1, "cases": PASSED + FAILED}, "1 tests failed:\ntests.one::test_b"),
        ({"errors": 2}, "2 tests failed"),
        ({"failures": None}, "is no report"),
        ({"tests": 1}, "no test was run"),
        ({"tests": "many"}, "is no report"),
        ({"cases": "<testcase"}, "is no report"),
        ({"cases": "&lol;"}, "is no report"),
    ],
)
def test_reports_that_are_no_proof(tmp_path, changes, message):
    with pytest.raises(TestsRefusedError, match=message) as raised:
        judge_report(report(tmp_path, **changes), COMMIT)
    assert raised.value.hint


def test_a_report_that_is_not_there_is_no_proof(tmp_path):
    with pytest.raises(TestsRefusedError, match="is no report"):
        judge_report(tmp_path / "none.xml", COMMIT)
