"""`inv up` with options of its own: they reach the boot, and a running instance has them already or is no answer to them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tasks
from invoke import Context, Exit

import cofferdam.demo
import cofferdam.doctor
import cofferdam.image.build
import cofferdam.tools.tree
from cofferdam.errors import InstanceError
from cofferdam.machine import api
from cofferdam.machine.instance import Instance
from cofferdam.machine.settings import BootSettings, boot_settings
from cofferdam.machine.stored import latest, otherwise, remember
from cofferdam.progress import Progress
from unit.host.machine import test_lifecycle as lifecycle
from unit.host.machine.test_lifecycle import Image

host = lifecycle.host


@pytest.fixture
def built(host, monkeypatch, tmp_path):
    """A machine on which everything is installed and built, and whose containers print what they should."""
    monkeypatch.setenv("FAKE_QEMU", "kvm=ok,tcg=ok")
    monkeypatch.setattr(cofferdam.doctor, "doctor", lambda fix: [])
    monkeypatch.setattr(cofferdam.image.build, "build_vm", lambda *_: Image())
    monkeypatch.setattr(cofferdam.tools.tree, "ensure_tools", lambda _: SimpleNamespace(path=tmp_path))
    monkeypatch.setattr(cofferdam.demo, "demonstrate", lambda *_: "0 100000 65536")


def up(**options: object) -> None:
    tasks.up(Context(), name="box", **options)


def test_the_options_reach_the_boot_and_a_second_time_changes_nothing(built, capsys):
    given = {"share": ["none"], "proxy": "http://proxy.example:3128"}
    up(**given)
    assert "proxy          proxy.example:3128 (from --proxy)" in capsys.readouterr().out
    asked = latest(Instance("box"))
    assert (asked.shares, asked.proxy) == ((), "http://proxy.example:3128")
    pid = api.status("box")[0]["pid"]
    for again in (given, {}):
        up(**again)
        assert "is already running" in capsys.readouterr().err
    assert api.status("box")[0]["pid"] == pid


def test_a_running_one_is_named_before_an_image_is_looked_for(built):
    up()
    with pytest.raises(InstanceError, match="already running"):
        api.boot(boot_settings(name="box", profile="never-built"), Progress(quiet=True))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"share": ["/srv"]}, "--share"),
        ({"proxy": "none", "socket": "x"}, "--proxy, --socket"),
        ({"ca_file": ["a.pem"]}, "--ca-file"),
    ],
)
def test_other_options_than_those_of_the_running_one_are_refused(built, given, named):
    up()
    with pytest.raises(Exit) as error:
        up(**given)
    assert error.value.code == 6
    assert error.value.message.splitlines() == [
        f"error: instance `box` is running, and was booted with another {named}",
        f"  next: Stop it with `inv stop --name box` first, or leave {named} out.",
    ]


def test_a_wrong_option_is_an_error_before_anything_is_built(built, monkeypatch):
    monkeypatch.setattr(cofferdam.image.build, "build_vm", lambda *_: pytest.fail("it was built"))
    with pytest.raises(Exit, match="--share none and a directory"):
        up(share=["none", "/srv"])
    assert not Instance("box").directory.exists()


def test_what_is_not_asked_for_is_not_compared(instance):
    remember(instance, BootSettings(name="box", profile="debug", cpus=1, proxy="none"))
    assert otherwise(instance, BootSettings(name="box", proxy="none")) == []
    assert otherwise(instance, BootSettings(name="box", shares=(), proxy="")) == ["--proxy", "--share"]


def test_up_and_boot_describe_the_same_options_with_the_same_words():
    for option in ("share", "socket", "ca-file", "proxy"):
        assert tasks.up.help[option] is tasks.boot.help[option]
    assert tasks.up.iterable == tasks.boot.iterable
