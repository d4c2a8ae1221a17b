"""The launcher, and the verbs `doctor` and `profile`: what they print, and their exit status as a script sees it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from rich.console import Console

import cofferdam.doctor
from cofferdam import verbs
from cofferdam.doctor import Check
from cofferdam.doctor.system import KEYRING
from cofferdam.doctor.table import REQUIREMENTS
from cofferdam.errors import HostError
from cofferdam.paths import ROOT
from cofferdam.profile import load_profile, profile_names

GOOD = Check("python", "runs", "ok", "3.13 [x]", "")
SLOW = Check("accelerator", "makes it fast", "warn", "tcg", "Turn on.")
BAD = Check("qemu", "runs the VM", "fail", "no QEMU", "Install it.")
WORSE = Check("sandbox", "runs the VM", "fail", "none", "Install it.")


def inv(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "invoke", *words]
    variables = {**os.environ, "COLUMNS": "200", **env}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def found(monkeypatch):
    """The checks that the doctor finds, and how it was called."""
    checks, calls = [], []

    def examine(**options):
        calls.append(options)
        return checks

    monkeypatch.setattr(cofferdam.doctor, "doctor", examine)
    return checks, calls


def test_doctor_on_a_good_machine_says_what_is_next(found, capsys):
    found[0][:] = [GOOD, SLOW]
    verbs.doctor(fix=True)
    lines = capsys.readouterr().out.splitlines()
    assert any("python" in line and "ok" in line and "3.13 [x]" in line for line in lines)
    assert any("accelerator" in line and "warn" in line and "Turn on." in line for line in lines)
    assert lines[-1] == "next           inv up; warnings: 1, the work goes on with them"
    assert found[1] == [{"fix": True}]


def test_doctor_without_warnings(found, capsys):
    found[0][:] = [GOOD]
    verbs.doctor()
    assert capsys.readouterr().out.splitlines()[-1] == "next           inv up"
    assert found[1] == [{"fix": False}]


@pytest.mark.parametrize("as_json", [False, True])
def test_doctor_on_a_bad_machine_shows_all_and_fails_with_each_step_once(found, capsys, as_json):
    found[0][:] = [GOOD, BAD, WORSE, SLOW]
    with pytest.raises(HostError, match="qemu: no QEMU\nsandbox: none") as error:
        verbs.doctor(as_json=as_json)
    assert error.value.hint == "Install it."
    printed = capsys.readouterr().out
    if as_json:
        assert json.loads(printed) == [check.as_dict() for check in found[0]]
    else:
        assert all(check.id in printed for check in found[0])


def test_up_lets_the_doctor_mend_and_stops_at_what_is_left(found):
    found[0][:] = [GOOD, SLOW, BAD]
    with pytest.raises(HostError, match="qemu: no QEMU"):
        verbs.up("default", "box")
    assert found[1] == [{"fix": True}]


def test_doctor_without_any_program_exits_with_3_and_prints_only_json(tmp_path):
    done = inv("doctor", "--json", PATH=str(tmp_path), COFFERDAM_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 3, done.stderr
    checks = {check["id"]: check for check in json.loads(done.stdout)}
    assert {checks[name]["status"] for name in ("mmdebstrap", "unshare", "qemu")} == {"fail"}
    assert {checks[name]["status"] for name in ("docker", "ssh", "accelerator")} == {"warn"}
    assert all(set(check) == {"id", "purpose", "status", "found", "fix"} for check in checks.values())
    assert done.stderr.startswith("error: this machine is not ready:")
    assert "  next: " in done.stderr


def test_doctor_on_this_machine_exits_as_its_checks_say():
    done = inv("doctor", "--json")
    failed = any(check["status"] == "fail" for check in json.loads(done.stdout))
    assert done.returncode == (3 if failed else 0), done.stderr


def test_a_narrow_status_cuts_nothing_off(monkeypatch, capsys):
    monkeypatch.setattr(verbs, "console", lambda: Console(width=70))
    row = {"name": "default", "state": "running", "profile": "default", "docker_host": "tcp://127.0.0.1:45601"}
    verbs.show_instances([row], verbs._status_table, as_json=False)
    shown = capsys.readouterr().out
    assert "…" not in shown
    columns = zip(*(line.strip("│").split("│") for line in shown.splitlines() if line.startswith("│")), strict=True)
    assert "tcp://127.0.0.1:45601" in ["".join(cell.strip() for cell in column) for column in columns]


@pytest.mark.parametrize("name", profile_names())
def test_the_printed_profile_is_a_profile_that_says_the_same(tmp_path, capsys, name):
    verbs.profile(name)
    (tmp_path / "copy.toml").write_text(capsys.readouterr().out)
    copy, original = load_profile("copy", tmp_path), load_profile(name)
    assert copy == original.model_copy(update={"name": "copy", "include": None})


def test_texts_are_escaped_as_toml_wants_it(tmp_path):
    text = 'a "quoted" \\ line\nwith ümlaut and 🚢'
    lines = verbs.profile_lines(load_profile("default").model_copy(update={"description": text}))
    (tmp_path / "copy.toml").write_text("\n".join(lines), encoding="utf-8")
    assert load_profile("copy", tmp_path).description == text


def test_profile_from_the_command_line():
    done = inv("profile", "debug")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# Profile `debug`, its include `default` resolved.\n")
    data = json.loads(inv("profile", "debug", "--json").stdout)
    assert (data["name"], data["include"], data["ssh"]) == ("debug", "default", True)


def test_an_unknown_profile_exits_with_2_and_names_the_nearest():
    done = inv("profile", "defualt")
    assert done.returncode == 2
    assert "next: Did you mean `default`?" in done.stderr


LIFE = ["list", "restart", "delete", "resize", "prune"]
RELEASES = ["release", "publish", "fetch"]
SNAPSHOTS = [f"snapshot.{name}" for name in ("save", "restore", "list", "delete")]


@pytest.mark.parametrize("name", ["doctor", "profile", *LIFE, *SNAPSHOTS, *RELEASES])
def test_help_has_an_example_and_every_option(name):
    done = inv("--help", name)
    assert f"Example: inv {name}" in done.stdout
    options = [line.split("  ")[-1].strip() for line in done.stdout.splitlines() if line.strip().startswith("-")]
    assert options
    assert not any(text.startswith("-") for text in options)


@pytest.mark.parametrize("name", ["keys.new", "verify", "release", "policy.check", "profile"])
def test_an_option_is_not_taken_for_what_the_verb_is_about(name):
    before = set(ROOT.iterdir())
    done = inv(name, "--help")
    assert done.returncode == 2
    assert "`--help` in the place of the " in done.stderr and "next: " in done.stderr
    assert set(ROOT.iterdir()) == before


def test_the_launcher_shows_the_help_of_a_verb_that_wants_an_argument():
    done = subprocess.run([str(ROOT / "inv"), "keys.new", "--help"], capture_output=True, text=True, timeout=300, check=True)
    assert "Example: inv keys.new" in done.stdout


def test_the_launcher_installs_what_the_doctor_asks_for():
    loader = SourceFileLoader("launcher", str(ROOT / "inv"))
    spec = importlib.util.spec_from_loader("launcher", loader)
    launcher = importlib.util.module_from_spec(spec)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(launcher)
    finally:
        sys.dont_write_bytecode = bytecode
    packages = {*launcher.PACKAGES.values(), *launcher.FILES.values()}
    assert packages == {name for row in REQUIREMENTS for name in row.packages}
    assert {Path(name) for name in launcher.FILES} == {KEYRING}
