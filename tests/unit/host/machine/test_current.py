"""The current docker context: one key of config.json, whose other keys, link and mode stay, and which is never lost."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from cofferdam.machine import current as module
from cofferdam.machine.current import ConfigUnusable, current, exists, give_back, identity, make_current, overridden

DOCKER = Path("/usr/local/bin/docker")
AUTHS = {"auths": {"example.com": {"auth": "YTpi"}}, "HttpHeaders": {"Meta": "grün"}}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    directory = tmp_path / "docker"
    for name in ("one", "two", "cofferdam"):
        meta = directory / "contexts/meta" / identity(name)
        meta.mkdir(parents=True)
        (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": "tcp://127.0.0.1:1"}}}))
    return directory


def settings(config: Path) -> dict:
    return json.loads((config / "config.json").read_text(encoding="utf-8"))


def test_without_a_file_the_default_is_current(tmp_path):
    assert current(tmp_path / "nowhere") == "default"
    make_current(tmp_path / "nowhere", "default")
    assert not (tmp_path / "nowhere").exists(), "nothing is written where nothing changes"


@pytest.mark.skipif(not DOCKER.exists(), reason="no docker program")
def test_docker_sees_what_is_written(config):
    def shown() -> str:
        env = {"DOCKER_CONFIG": str(config), "PATH": os.environ["PATH"], "HOME": str(config)}
        return subprocess.run([DOCKER, "context", "show"], env=env, capture_output=True, text=True, timeout=60).stdout.strip()

    make_current(config, "one")
    assert (shown(), current(config)) == ("one", "one")
    make_current(config, "default")
    assert (shown(), current(config)) == ("default", "default")


def test_all_other_keys_stay_and_so_does_the_mode(config):
    file = config / "config.json"
    file.write_text(json.dumps(AUTHS))
    file.chmod(0o640)
    make_current(config, "one")
    assert settings(config) == {**AUTHS, "currentContext": "one"}
    make_current(config, "default")
    assert settings(config) == AUTHS
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in config.iterdir() if path.is_file()] == ["config.json"]


def test_a_new_file_is_the_users_alone(tmp_path):
    make_current(tmp_path / "docker", "one")
    assert stat.S_IMODE((tmp_path / "docker/config.json").stat().st_mode) == 0o600


def test_a_link_stays_one(config, tmp_path):
    real = tmp_path / "dotfiles.json"
    real.write_text(json.dumps(AUTHS))
    (config / "config.json").symlink_to(real)
    make_current(config, "one")
    assert (config / "config.json").is_symlink()
    assert json.loads(real.read_text(encoding="utf-8"))["currentContext"] == "one"


def test_an_empty_file_is_one_without_settings(config):
    (config / "config.json").write_text("\n")
    make_current(config, "one")
    assert current(config) == "one"


@pytest.mark.parametrize("content", [b"{", b"[]", b'"one"', b"\xff", b"[" * 100_000, b'{"currentContext": 3}'])
def test_a_file_that_is_not_understood_is_left_alone(config, content):
    file = config / "config.json"
    file.write_bytes(content)
    for attempt in (lambda: current(config), lambda: make_current(config, "one"), lambda: give_back(config, "one", [])):
        with pytest.raises(ConfigUnusable, match=r"config\.json") as error:
            attempt()
        assert error.value.hint
    assert file.read_bytes() == content


def test_a_killed_write_leaves_the_old_file(config, monkeypatch):
    make_current(config, "one")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        make_current(config, "two")
    monkeypatch.undo()
    assert current(config) == "one"
    make_current(config, "two")
    assert current(config) == "two"


def test_what_cannot_be_written_is_an_error_with_a_next_step(config, monkeypatch):
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "write_private", refused)
    with pytest.raises(ConfigUnusable, match="cannot be written: Permission denied") as error:
        make_current(config, "one")
    assert "rights" in error.value.hint


@pytest.mark.parametrize(
    ("former", "following"),
    [
        ([], "default"),
        (["one"], "one"),
        (["gone", "two", "one"], "two"),
        (["gone"], "default"),
        (["cofferdam", "one"], "one"),
        (["default", "one"], "default"),
    ],
)
def test_given_back_to_the_latest_that_still_exists(config, former, following):
    make_current(config, "cofferdam")
    assert give_back(config, "cofferdam", former) == following
    assert current(config) == following
    assert exists(config, following)


def test_a_later_choice_of_the_user_stands(config):
    make_current(config, "two")
    assert give_back(config, "cofferdam", ["one"]) is None
    assert current(config) == "two"


def test_variables_that_win(monkeypatch):
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    assert overridden() == []
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
    monkeypatch.setenv("DOCKER_CONTEXT", "")
    assert overridden() == ["DOCKER_HOST"]
