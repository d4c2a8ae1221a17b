"""The control group lies below /docker whatever was asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import cgroup


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/docker/box", "/docker/box"),
        ("/docker/a/box", "/docker/a/box"),
        ("docker/box", "/docker/box"),
        ("", "/docker/box"),
        ("/", "/docker/box"),
        ("/docker", "/docker/box"),
        ("/docker/", "/docker/box"),
        ("/docker/..", "/docker/box"),
        ("/system.slice/x", "/docker/system.slice/x"),
        ("/dockers/x", "/docker/dockers/x"),
        ("/docker/../system.slice/docker.service", "/docker/system.slice/docker.service"),
        ("../../../x", "/docker/x"),
        ("//x//y/./z", "/docker/x/y/z"),
    ],
)
def test_confined(path, answer):
    assert cgroup.confined(path, "box") == answer


@pytest.mark.parametrize("path", ["system.slice:docker:box", "/docker/a:b", ":"])
def test_the_form_of_systemd_is_refused(path):
    with pytest.raises(Refusal, match="is not a path") as caught:
        cgroup.confined(path, "box")
    assert caught.value.rule == "cgroup"


def test_a_missing_path_gets_one(spec, context):
    del spec["linux"]["cgroupsPath"]
    cgroup.modify(spec, context)
    assert spec["linux"]["cgroupsPath"] == "/docker/" + context.container


@given(st.text("/.abdocker:", max_size=40))
def test_no_path_leads_out(path):
    try:
        answer = cgroup.confined(path, "box")
    except Refusal:
        return
    assert answer.startswith("/docker/")
    assert len(answer) > len("/docker/")
    assert not {"", ".", ".."} & set(answer.split("/")[1:])
