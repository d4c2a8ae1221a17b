"""Dispatch: which verbs go straight to the low-level runtime, which are prepared, and that an error executes nothing."""

import contextlib
import json
import os

import pytest

from cofferdam_guest.idrange import store as idstore
from cofferdam_guest.runtime import events, main, start, sweep
from cofferdam_guest.runtime.argv import VERBS
from cofferdam_guest.runtime.errors import Refusal

STRAIGHT = ["state", "start", "kill", "list", "ps", "pause", "resume", "update", "features"]


class Executed(BaseException):
    """Stands for the process having become another one: nothing after it runs."""


@pytest.fixture(autouse=True)
def executed(monkeypatch):
    """The command lines executed; none outside of a test's control."""
    lines = []

    def execv(path, arguments):
        lines.append((path, list(arguments)))
        raise Executed

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(os, "posix_spawn", lambda *a, **k: pytest.fail("spawned"))
    return lines


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """The events for the journal, as sets of what was said."""
    said = []
    monkeypatch.setattr(events, "refused", lambda *a, **k: said.append({*a, *k.values()}))
    return said


@pytest.fixture
def prepared(monkeypatch):
    """Preparation that works; the calls it was made for."""
    calls = []

    @contextlib.contextmanager
    def prepare(call):
        calls.append(call)
        yield "/stage/config.json"

    monkeypatch.setattr(start, "prepared", prepare)
    return calls


def failing(monkeypatch, error):
    @contextlib.contextmanager
    def prepare(call):
        raise error
        yield

    monkeypatch.setattr(start, "prepared", prepare)


def last_line(text):
    return json.loads(text.splitlines()[-1])


@pytest.mark.parametrize("verb", STRAIGHT)
def test_other_verbs_go_to_the_low_level_runtime_at_once_as_they_are(executed, prepared, verb):
    words = ["--root", "/run/x", "--log", "create", verb, "--whatever", "create"]
    with pytest.raises(Executed):
        main.main(words)
    ((path, arguments),) = executed
    assert path == arguments[0] == main.LOW_LEVEL
    assert arguments[-len(words) :] == words
    assert prepared == []


@pytest.mark.parametrize("words", [["--version"], ["-v"], ["--help"], []], ids=repr)
def test_a_line_without_a_verb_too(executed, words):
    with pytest.raises(Executed):
        main.main(words)
    assert executed[0][1][1:] == words


def test_every_verb_is_either_straight_guarded_or_refused():
    assert {*STRAIGHT, *main.GUARDED} | {"checkpoint", "restore"} == VERBS
    assert not {*STRAIGHT} & {*main.GUARDED}


@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_start_gets_the_prepared_configuration(executed, prepared, verb):
    with pytest.raises(Executed):
        main.main(["--log", "create", verb, "--bundle", "/b", "create"])
    ((path, arguments),) = executed
    assert path == main.LOW_LEVEL
    assert arguments[1:] == ["--log", "create", verb, "--config", "/stage/config.json", "--bundle", "/b", "create"]
    assert [call.container for call in prepared] == ["create"]


@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_refusal_is_told_to_all_and_executes_nothing(executed, told, monkeypatch, tmp_path, capsys, verb):
    failing(monkeypatch, Refusal("hook", "no way"))
    log = tmp_path / "log.json"
    assert main.main(["--log", str(log), verb, "--bundle", "/b", "box"]) == 1
    assert executed == []
    assert last_line(log.read_text()) == last_line(capsys.readouterr().err)
    assert last_line(log.read_text())["msg"] == "error in the container spec: no way"
    assert last_line(log.read_text())["level"] == "error"
    (event,) = told
    assert {"hook", "error in the container spec: no way", "box"} <= event


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), RuntimeError("x"), RecursionError("deep"), AssertionError()], ids=repr
)
def test_an_unexpected_error_fails_closed_and_says_where(executed, told, monkeypatch, capsys, error):
    failing(monkeypatch, error)
    assert main.main(["create", "--bundle", "/b", "box"]) == 1
    assert executed == []
    message = last_line(capsys.readouterr().err)["msg"]
    assert message.startswith("isolation could not be set up: ")
    assert type(error).__name__ in message
    assert "test_main.py:" in message
    assert "internal" in told[0]


def test_a_bad_command_line_of_a_start(executed, told, prepared, tmp_path, capsys):
    log = tmp_path / "log"
    assert main.main(["--log", str(log), "create", "--no-pivot", "box"]) == 1
    assert "--no-pivot is not supported" in last_line(log.read_text())["msg"]
    assert executed == prepared == []
    assert "usage" in told[0]


@pytest.mark.parametrize("words", [["spec"], ["--frob", "create", "box"], ["crate", "box"]], ids=repr)
def test_what_is_not_understood_is_not_passed_on(executed, prepared, capsys, words):
    assert main.main(words) == 1
    assert executed == prepared == []
    assert last_line(capsys.readouterr().err)["level"] == "error"


@pytest.mark.parametrize("log", [["--log", "{}"], ["--log={}"]], ids=" ".join)
def test_the_log_hears_of_a_line_that_could_not_be_read(executed, tmp_path, capsys, log):
    path = str(tmp_path / "log")
    assert main.main(["--frob", *(each.format(path) for each in log), "create", "box"]) == 1
    assert executed == []
    assert "--frob" in last_line((tmp_path / "log").read_text())["msg"]


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_checkpoints_are_refused(executed, prepared, tmp_path, capsys, verb):
    assert main.main(["--log", str(tmp_path / "log"), verb, "--image-path", "/x", "box"]) == 1
    assert executed == prepared == []
    assert f"{verb} is not supported" in last_line((tmp_path / "log").read_text())["msg"]


def test_a_broken_exec_executes_nothing(executed, told, tmp_path, capsys):
    (tmp_path / "process").write_text("{")
    assert main.main(["exec", "--process", str(tmp_path / "process"), "box"]) == 1
    assert executed == []
    assert "exec" in told[0]


def test_missing_settings_start_nothing(executed, told, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(start.engine, "load", lambda: start.engine.parse("{}"))
    assert main.main(["create", "--bundle", str(tmp_path), "box"]) == 1
    assert executed == []
    assert "no usable settings" in last_line(capsys.readouterr().err)["msg"]


@pytest.fixture
def deletion(monkeypatch, tmp_path):
    """A low-level runtime that ends with the status in `.status`; what happened around it, in order."""

    class Steps(list):
        status = 0

    steps = Steps()

    def spawn(path, arguments, environment):
        steps.append(("crun", arguments))
        child = os.fork()
        if child == 0:
            os._exit(steps.status)
        return child

    class Store:
        def release(self, root, container):
            steps.append(("release", root, container))

    monkeypatch.setattr(os, "posix_spawn", spawn)
    monkeypatch.setattr(idstore, "Store", Store)
    monkeypatch.setattr(sweep, "sweep", lambda *a, **k: steps.append(("sweep",)))
    return steps


def test_delete_releases_the_range_after_the_container_is_gone(deletion, executed, tmp_path):
    words = ["--root", str(tmp_path), "delete", "--force", "box"]
    assert main.main(words) == 0
    assert deletion[0] == ("crun", [main.LOW_LEVEL, *words])
    assert ("release", str(tmp_path), "box") in deletion[1:]
    assert executed == []


def test_delete_keeps_the_range_of_a_container_that_is_still_there(deletion, tmp_path):
    (tmp_path / "box").mkdir()
    deletion.status = 1
    assert main.main(["--root", str(tmp_path), "delete", "box"]) == 1
    assert [each[0] for each in deletion] == ["crun"]


def test_delete_of_one_that_never_came_to_be_releases_and_keeps_the_status(deletion, tmp_path):
    deletion.status = 3
    assert main.main(["--root", str(tmp_path), "delete", "--force", "box"]) == 3
    assert "release" in [each[0] for each in deletion]


def test_delete_of_an_odd_name_touches_nothing(deletion, told, tmp_path, capsys):
    assert main.main(["--root", str(tmp_path), "delete", "../x"]) == 1
    assert deletion == []
