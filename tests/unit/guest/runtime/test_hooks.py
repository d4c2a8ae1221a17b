"""Hooks run as root of the VM: only dockerd's own is let through. This test's interpreter plays dockerd."""

import os

import pytest

from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import hooks

DAEMON = os.readlink("/proc/self/exe")
PATH = f"/proc/{os.getpid()}/exe"
ARGS = ["libnetwork-setkey", "-exec-root=/var/run/docker", "c" * 64, "0123456789ab"]


@pytest.fixture
def judge(spec, context):
    context.settings.docker_daemon = DAEMON

    def modify(stage="prestart", **hook):
        spec["hooks"] = {stage: [{"path": PATH, "args": ARGS} | hook]}
        hooks.modify(spec, context)
        return spec["hooks"][stage][0]

    return modify


def test_no_hooks_are_fine(spec, context):
    for value in (None, {}, {"prestart": []}, {"poststop": None}):
        spec["hooks"] = value
        hooks.modify(spec, context)


def test_dockerds_network_hook_stays(judge):
    hook = judge()
    assert hook["args"] == ARGS
    assert hook["path"] == DAEMON  # a process id may be somebody else's by the time the hook runs


@pytest.mark.parametrize("stage", ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"])
def test_no_other_stage(judge, stage):
    with pytest.raises(Refusal, match=f"the {stage} hook") as caught:
        judge(stage)
    assert caught.value.rule == "hook"


@pytest.mark.parametrize(
    "path",
    [
        DAEMON,
        "/usr/bin/nvidia-container-runtime-hook",
        "/proc/self/exe",
        "/proc/1/../self/exe",
        "/proc/OWN/root/bin/sh",
        "/proc/OWN/exe/",
        "//proc/OWN/exe",
        "proc/OWN/exe",
        "/proc/4194305/exe",
        "/proc/-1/exe",
        "",
    ],
)
def test_no_other_program(judge, path):
    path = path.replace("OWN", str(os.getpid()))
    with pytest.raises(Refusal):
        judge(path=path)


@pytest.mark.parametrize("args", [[], ["sh", "-c", "id"], ["libnetwork-setkey2"], ["", "libnetwork-setkey"]])
def test_no_other_purpose(judge, args):
    with pytest.raises(Refusal):
        judge(args=args)


def test_no_environment(judge):
    with pytest.raises(Refusal):
        judge(env=["LD_PRELOAD=/x.so"])
    judge(env=[])


def test_a_process_that_is_not_dockerd(judge, context):
    context.settings.docker_daemon = "/usr/sbin/dockerd"
    with pytest.raises(Refusal):
        judge()


def test_one_foreign_hook_among_good_ones_is_enough(spec, context):
    context.settings.docker_daemon = DAEMON
    good = {"path": PATH, "args": ARGS}
    spec["hooks"] = {"prestart": [good, {"path": "/bin/sh", "args": ["sh"]}]}
    with pytest.raises(Refusal, match="/bin/sh"):
        hooks.modify(spec, context)
