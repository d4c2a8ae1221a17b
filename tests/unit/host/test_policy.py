"""Policies on the host: checked, shown, limited in size; exit status and places as a script sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cofferdam import verbs
from cofferdam.paths import ROOT
from cofferdam.policy import BOOT_LIMIT, PolicyFileError, boot_policy, joined, profile_policy, read_policy
from cofferdam.profile import load_profile
from cofferdam.rootfs.build import entries_digest, own_entries
from cofferdam.rootfs.entries import POLICY_PATH

GOOD = {"blockDockerLoad": {"locked": True, "value": True}}
BAD = '{\n  "blockDockerLoad": {"value": 1},\n  "scout": []\n}'


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.json"
    path.write_text(json.dumps({**GOOD, "unknown": 1, "scout": {"sbomIndexing": True}}))
    return path


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(BAD)
    return path


def inv(*words):
    command = [sys.executable, "-m", "invoke", *words]
    env = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_a_good_file_ends_with_0_and_its_warnings(good):
    done = inv("policy.check", str(good))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{good}: ok"
    assert [line.split(": ")[1] for line in lines[:-1]] == ["warning", "note"]


def test_a_bad_file_ends_with_2_and_the_place_of_every_error(bad):
    done = inv("policy.check", str(bad))
    assert done.returncode == 2
    assert f"{bad}:2:32: error: blockDockerLoad.value: must be true or false, not the number 1" in done.stderr
    assert f"{bad}:3:12: error: scout: must be an object" in done.stderr
    assert "next: " in done.stderr


def test_the_check_as_json_is_the_whole_of_the_output(bad, good, capsys):
    with pytest.raises(PolicyFileError):
        verbs.policy_check(str(bad), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert (printed["file"], printed["ok"]) == (str(bad), False)
    assert printed["findings"][0] == {
        "level": "error",
        "key": "blockDockerLoad.value",
        "message": "must be true or false, not the number 1",
        "line": 2,
        "column": 32,
    }
    verbs.policy_check(str(good), as_json=True)
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PolicyFileError, match=r"absent\.json: No such file") as error:
        read_policy(tmp_path / "absent.json")
    assert error.value.exit_code == 2


def test_the_shown_policy_is_what_would_hold(good, capsys):
    verbs.policy_show(str(good), "default", as_json=True)
    printed = json.loads(capsys.readouterr().out)
    expected = joined(profile_policy(load_profile("default")), boot_policy(good)).policy
    assert printed["sha256"] == expected.sha256
    assert (printed["policy"]["block_load"], printed["policy"]["sources"]) == (True, ["image", "boot"])
    assert [name.rpartition("/")[2] for name in printed["files"]] == ["default.json", "good.json"]


def test_the_shown_policy_as_text(capsys):
    verbs.policy_show("", "default")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["sha256", joined(profile_policy(load_profile("default"))).policy.sha256]
    assert any(line.split() == ["block_load", "false"] for line in lines)


def test_show_from_the_command_line(good):
    done = inv("policy.show", "--file", str(good), "--profile", "debug", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["policy"]["block_load"] is True


@pytest.mark.parametrize("name", ["policy.check", "policy.show"])
def test_help_has_an_example(name):
    assert f"Example: inv {name}" in inv("--help", name).stdout


def test_names_of_the_other_verbs_are_as_before():
    names = {task["name"] for task in json.loads(inv("--list", "--list-format", "json").stdout)["tasks"]}
    assert names >= {"bench", "boot", "build-vm", "doctor", "logs", "profile", "ssh", "status", "stop", "test", "up"}


def test_a_policy_at_boot_has_a_limit_that_is_told(tmp_path):
    path = tmp_path / "long.json"
    path.write_text("{}" + " " * (BOOT_LIMIT - 2))
    assert boot_policy(path).data
    path.write_text("{}" + " " * (BOOT_LIMIT - 1))
    with pytest.raises(PolicyFileError, match=f"{BOOT_LIMIT + 1} bytes; at boot a policy may have {BOOT_LIMIT}") as error:
        boot_policy(path)
    assert "profile" in error.value.hint


def profile_with(tmp_path, policy):
    (tmp_path / "x.toml").write_text(
        f'description = "d"\nisolation = "kernel"\npackages = ["base"]\noverlays = ["base"]\npolicy = "{policy}"\n'
        '[kernel]\nfragments = ["base"]\nsuites = ["s"]\n'
    )
    return load_profile("x", tmp_path)


def test_a_profiles_policy_lies_relative_to_it(tmp_path, good):
    (tmp_path / "policies").mkdir()
    good.rename(tmp_path / "policies/company.json")
    assert profile_policy(profile_with(tmp_path, "policies/company.json"), tmp_path).found.settings is not None
    with pytest.raises(PolicyFileError, match=r"policies/other\.json"):
        profile_policy(profile_with(tmp_path, "policies/other.json"), tmp_path)


def test_a_profile_with_a_bad_policy_is_not_built(bad):
    profile = load_profile("default").model_copy(update={"policy": str(bad)})
    with pytest.raises(PolicyFileError, match=r"bad\.json:2:32"):
        own_entries(profile)


def test_the_policy_goes_into_the_root_and_into_its_hash(good):
    profile = load_profile("default")
    other = profile.model_copy(update={"policy": str(good)})
    entries = {entry.path: entry for entry in own_entries(other)}
    assert entries[POLICY_PATH].data == good.read_bytes()
    assert entries_digest(own_entries(profile)) != entries_digest(own_entries(other))
