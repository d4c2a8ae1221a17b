"""`exec`: no further process gets more than the container has."""

import json
import os

import pytest

from cofferdam_guest.runtime import execution
from cofferdam_guest.runtime.argv import Call
from cofferdam_guest.runtime.errors import Refusal, UsageError

OWN = {"process": {"capabilities": {"bounding": ["CAP_CHOWN"], "effective": []}, "noNewPrivileges": True}}
KINDS = ("bounding", "effective", "permitted", "inheritable", "ambient")


@pytest.fixture
def container(tmp_path):
    """A function that parses an `exec` for a container whose own configuration is OWN."""
    state = tmp_path / "root/box"
    state.mkdir(parents=True)
    (state / "config.json").write_text(json.dumps(OWN))

    def call(process, *more):
        path = tmp_path / "process.json"
        path.write_text(process if isinstance(process, str) else json.dumps(process))
        made = Call(["--root", str(tmp_path / "root"), "exec", "--process", str(path), *more, "box"])
        made.read_exec()
        return made

    return call


def replaced(words):
    assert words[-3] == "--process", words
    fd = int(words[-2].rpartition("/")[2])
    with open(fd, "rb", closefd=True) as file:
        file.seek(0)
        return json.loads(file.read())


def test_privileged_exec_keeps_the_containers_own_capabilities(container):
    every = ["CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_MKNOD"]
    process = replaced(execution.confined(container({"args": ["id"], "capabilities": dict.fromkeys(KINDS, every)})))
    assert process["capabilities"] == {key: ["CAP_CHOWN"] for key in KINDS}
    assert process["args"] == ["id"]


def test_what_lowers_the_process_is_kept(container):
    process = replaced(execution.confined(container({"args": ["id"], "capabilities": {"effective": []}, "oomScoreAdj": -900})))
    assert process["noNewPrivileges"] is True
    assert process["oomScoreAdj"] == 0
    assert process["capabilities"] == {"effective": []}


def test_unknown_fields_and_steering_variables_are_dropped(container):
    process = replaced(
        execution.confined(container({"args": ["id"], "env": ["SYSBOX_HONOR_CAPS=1", "A=b"], "scheduler": {"policy": 1}}))
    )
    assert process["env"] == ["A=b"]
    assert "scheduler" not in process


def test_the_callers_file_is_left_alone(container, tmp_path):
    execution.confined(container({"args": ["id"], "capabilities": {"effective": ["CAP_SYS_ADMIN"]}}))
    assert json.loads((tmp_path / "process.json").read_text())["capabilities"] == {"effective": ["CAP_SYS_ADMIN"]}


@pytest.mark.parametrize("broken", ["{", "[]", ""], ids=["cut", "list", "empty"])
def test_a_broken_description_is_refused(container, broken):
    with pytest.raises(Refusal):
        execution.confined(container(broken))


def test_a_container_without_configuration_is_refused(container, tmp_path):
    call = container({"args": ["id"]})
    os.unlink(tmp_path / "root/box/config.json")
    with pytest.raises(Refusal):
        execution.confined(call)


def test_a_command_without_a_description_runs_as_it_is(tmp_path):
    call = Call(["exec", "-t", "box", "sh", "--cap", "x"])
    call.read_exec()
    assert (call.container, execution.confined(call)) == ("box", call.words)


@pytest.mark.parametrize("option", ["--cap", "--cgroup", "--apparmor"])
def test_options_that_raise_a_process_are_refused(option):
    with pytest.raises(UsageError):
        Call(["exec", option, "value", "box", "sh"]).read_exec()
