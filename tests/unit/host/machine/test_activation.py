"""A boot makes its context docker's current one, a stop brings the former back, whatever is killed or chosen in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from cofferdam.machine import activation, api
from cofferdam.machine import context as contexts
from cofferdam.machine.current import current, identity, make_current
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.instance import Instance, State
from cofferdam.progress import Progress
from unit.host.machine import test_lifecycle as lifecycle
from unit.host.machine.test_lifecycle import Image, docker_contexts

host = lifecycle.host


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's configuration directory, with a context of the user's own, `mine`, as the current one."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "docker"
    meta = directory / "contexts/meta" / identity("mine")
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text('{"Name": "mine", "Metadata": {}, "Endpoints": {}}')
    make_current(directory, "mine")
    return directory


def test_a_boot_activates_and_a_stop_gives_back(host, config):
    report = host.boot("kvm=ok")
    assert (current(config), report.current, report.notes) == ("cofferdam-box", True, ())
    text = "\n".join(report.lines())
    assert "docker run ...   (its current context is `cofferdam-box` until the instance stops)" in text
    assert f"export DOCKER_HOST={report.docker_host} DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={report.cert_path}" in text
    stopped = api.stop("box")
    assert (current(config), stopped.current) == ("mine", "mine")
    assert stopped.line().endswith("docker context `cofferdam-box` removed, `mine` is current")


def test_the_printed_lines_work_in_a_shell(host, tmp_path, monkeypatch):
    monkeypatch.setenv("COFFERDAM_STATE_HOME", str(tmp_path / "state of 'me'"))
    report = host.boot("kvm=ok")
    exports = [line[15:] for line in report.lines() if line[15:].startswith("export ")]
    shown = subprocess.run(["/bin/sh", "-c", "; ".join([*exports, "/usr/bin/env"])], capture_output=True, text=True, check=True)
    variables = dict(line.split("=", 1) for line in shown.stdout.splitlines())
    assert {name: variables[name] for name in report.environment} == report.environment
    assert variables["TESTCONTAINERS_HOST_OVERRIDE"] == "127.0.0.1"
    assert variables["TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE"] == "/var/run/docker.sock"
    assert json.loads(json.dumps(report.as_dict()))["testcontainers"]["TESTCONTAINERS_HOST_OVERRIDE"] == "127.0.0.1"


def test_a_boot_that_is_told_not_to(host, config):
    report = host.boot("kvm=ok", activate=False)
    assert (current(config), report.current, report.context) == ("mine", False, "cofferdam-box")
    assert "docker --context cofferdam-box run ..." in "\n".join(report.lines())
    assert api.restart("box", Progress(quiet=True), image=Image())[1].current is False, "and the restart remembers it"
    assert api.stop("box").current is None
    assert current(config) == "mine"


def test_a_later_choice_of_the_user_stands(host, config):
    host.boot("kvm=ok")
    make_current(config, "default")
    assert api.stop("box").current is None
    assert current(config) == "default"


@pytest.mark.parametrize(
    ("order", "after"),
    [(("two", "one"), ("cofferdam-one", "mine")), (("one", "two"), ("cofferdam-two", "mine"))],
)
def test_of_two_instances_the_latest_is_current_and_stopping_it_gives_the_one_before(host, config, order, after):
    for name in ("one", "two"):
        host.boot("tcg=ok", name=name, accel="tcg")
    assert current(config) == "cofferdam-two"
    for name, expected in zip(order, after, strict=True):
        api.stop(name)
        assert current(config) == expected
    assert docker_contexts() == ["mine"]


def test_a_deletion_gives_back_as_well(host, config):
    host.boot("kvm=ok")
    api.delete("box", data=True)
    assert current(config) == "mine"


@pytest.mark.parametrize("verb", ["status", "boot", "stop", "delete"])
def test_after_a_kill_of_qemu_the_next_command_mends(host, config, verb):
    host.boot("kvm=ok")
    instance = Instance("box")
    os.kill(instance.record.pid, signal.SIGKILL)
    assert wait_until(lambda: not instance.alive, 20)
    assert current(config) == "cofferdam-box"
    if verb == "boot":
        host.boot("kvm=ok")
        assert (current(config), instance.record.former_contexts) == ("cofferdam-box", ["mine"])
        api.stop("box")
    else:
        {"status": api.status, "stop": api.stop, "delete": api.delete}[verb]("box")
    assert current(config) == "mine"
    assert docker_contexts() == ["mine"]


STEPS = {
    "before anything": (Instance, "write_record", "mine"),
    "before the context is made": (contexts, "create", "mine"),
    "before it is current": (activation, "make_current", "mine"),
    "after it is current": (activation, "overridden", "cofferdam-box"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_boot_killed_on_the_way_leaves_nothing_that_points_nowhere(instance, record, config, monkeypatch, step):
    where, name, left = STEPS[step]
    certificates = instance.directory / "client"
    certificates.mkdir()
    for file in contexts.CLIENT_FILES:
        (certificates / file).touch()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    instance.write_record(record)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, killed)
        with pytest.raises(KeyboardInterrupt):
            activation.make_context(instance, record, "tcp://127.0.0.1:1", certificates, activate=True)
    assert current(config) == left
    assert left == "mine" or left in docker_contexts(), "the current context exists"
    assert instance.state() is State.STALE
    api.status("box")
    assert (current(config), docker_contexts()) == ("mine", ["mine"])


def test_a_stop_killed_on_the_way_is_finished_by_the_next_command(host, config, monkeypatch):
    host.boot("kvm=ok")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(contexts.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            api.stop("box")
    assert current(config) == "mine", "given back before the context goes"
    api.status("box")
    assert docker_contexts() == ["mine"]


def test_variables_that_win_are_told(host, monkeypatch, config):
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
    (note,) = host.boot("kvm=ok").notes
    assert note == "DOCKER_HOST set in this environment: docker heeds that, not its current context; unset DOCKER_HOST"
    assert current(config) == "cofferdam-box"


def test_a_broken_file_of_docker_is_left_alone_and_told(host, config):
    (config / "config.json").write_text("{broken")
    report = host.boot("kvm=ok")
    assert (report.context, report.current) == ("cofferdam-box", False)
    assert "config.json is not JSON and is left alone" in report.notes[0]
    assert "docker --context cofferdam-box run ..." in "\n".join(report.lines())
    api.stop("box")
    assert (config / "config.json").read_text() == "{broken"
    assert docker_contexts() == ["mine"]


def test_a_context_of_somebody_else_is_not_made_current(host, config):
    meta = config / "contexts/meta" / identity("cofferdam-box")
    meta.mkdir()
    (meta / "meta.json").write_text('{"Name": "cofferdam-box", "Metadata": {"Description": "theirs"}}')
    report = host.boot("kvm=ok")
    assert (report.context, report.current, current(config)) == (None, False, "mine")
    api.stop("box")
    assert current(config) == "mine"


def test_a_missing_docker_program_is_told_with_how_to_get_it(host, tmp_path, monkeypatch):
    report = host.boot("kvm=ok")
    assert "not installed here: `apt-get install docker-cli`" in "\n".join(report.lines())
    api.stop("box")
    program = tmp_path / "no-programs/docker"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    assert "not installed" not in "\n".join(host.boot("kvm=ok").lines())
