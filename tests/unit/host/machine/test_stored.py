"""What is stored from boot to boot: sizes, what the latest boot was asked for; and the verb that changes sizes."""

from __future__ import annotations

import json
import stat

import pytest

from cofferdam import lifeverbs
from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine.hostos import process_start
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.resize import resize
from cofferdam.machine.settings import BootSettings, Sizes, boot_settings, resize_sizes, shares_option
from cofferdam.machine.stored import completed, latest, read_sizes, remember, take_again, write_sizes

MIB = 2**20


def made(instance: Instance, size: int = 64 * MIB) -> Instance:
    with instance.data_disk.open("wb") as disk:
        disk.truncate(size)
    return instance


def test_sizes_are_stored_private_and_whole(instance):
    assert read_sizes(instance) == Sizes()
    write_sizes(instance, Sizes(cpus=2, data_disk=64 * MIB))
    path = instance.directory / "settings.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"cpus": 2, "data_disk": 64 * MIB}
    assert read_sizes(instance) == Sizes(cpus=2, data_disk=64 * MIB)
    assert [item.name for item in instance.directory.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cpus": 0}', b'{"cpus": "2"}', b'{"cpu": 2}', b"\xff"])
@pytest.mark.parametrize("name", ["settings.json", "latest.json"])
def test_a_damaged_file_is_an_error_that_names_it(instance, content, name):
    path = instance.directory / name
    path.write_bytes(content if name == "settings.json" else content.replace(b'"2"', b'"two"'))
    with pytest.raises(InstanceError, match="is damaged") as error:
        (read_sizes if name == "settings.json" else latest)(instance)
    assert str(path) in str(error.value)
    assert "Remove the file" in error.value.hint


@pytest.mark.parametrize(
    ("given", "stored", "result"),
    [
        ({}, Sizes(), BootSettings()),
        ({}, Sizes(cpus=7, memory=512), BootSettings(cpus=7, memory=512)),
        ({"cpus": "3"}, Sizes(cpus=7, memory=512), BootSettings(cpus=3, memory=512)),
        ({}, Sizes(data_disk=128 * MIB), BootSettings(data_disk=128)),
        ({}, Sizes(data_disk=64 * MIB), BootSettings()),
        ({"data_disk": "256M"}, Sizes(data_disk=128 * MIB), BootSettings(data_disk=256)),
    ],
)
def test_a_boot_takes_stored_sizes_where_it_chose_none(instance, given, stored, result):
    write_sizes(made(instance), stored)
    assert completed(instance, boot_settings(**given)).model_dump() == result.model_dump()


def test_the_latest_boot_is_remembered_as_it_was_asked_for(instance, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {"profile": "debug", "memory": "3G", "docker_port": "2376", "timeout": "90"}
    remember(instance, boot_settings(name="box", data_disk="1G", policy="p.json", **asked))
    assert latest(instance) == boot_settings(name="box", policy=tmp_path / "p.json", **asked)
    assert latest(instance).model_fields_set == {"profile", "memory", "docker_port", "timeout", "policy", "name"}
    remember(instance, boot_settings(name="box"))
    assert latest(instance) == BootSettings(name="box"), "not what an earlier boot was asked for"


@pytest.mark.parametrize(
    ("words", "shares"),
    [
        ([], None),
        (["none"], ()),
        (["/srv/x"], ("/srv/x",)),
        (["src", "~/data:ro", "../tmp/./x:rw"], ("/tmp/src", "/home/a/data:ro", "/tmp/x")),
    ],
)
def test_shared_directories_are_remembered_wherever_the_next_boot_is_asked_for(instance, monkeypatch, words, shares):
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.chdir("/tmp")
    remember(instance, boot_settings(name="box", shares=shares_option(words)))
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/other")
    assert latest(instance).shares == shares
    assert completed(instance, latest(instance)).shares == shares
    assert ("shares" in latest(instance).model_fields_set) == (shares is not None)


def test_later_sizes_count_more_than_those_of_the_latest_boot(instance):
    remember(instance, boot_settings(cpus="3", memory="3G"))
    write_sizes(instance, Sizes(cpus=2))
    again = completed(instance, latest(instance))
    assert (again.cpus, again.memory) == (2, 3072)


def test_a_stored_disk_size_is_done_with_after_a_boot(instance):
    write_sizes(instance, Sizes(cpus=2, data_disk=128 * MIB))
    remember(instance, BootSettings())
    assert read_sizes(instance) == Sizes(cpus=2)


def test_resize_of_a_stopped_one_grows_the_disk_at_once(instance):
    report = resize(made(instance).name, resize_sizes(cpus="3", memory="4G", data_disk="128M"))
    assert instance.data_disk.stat().st_size == 128 * MIB
    assert read_sizes(instance) == Sizes(cpus=3, memory=4096)
    assert report.lines() == [
        "cpus           3, from the next boot on",
        "memory         4096 MiB, from the next boot on",
        "data disk      grown from 64M to 128M",
        "next           inv boot --name box",
    ]
    resize("box", Sizes(memory=512))
    assert read_sizes(instance) == Sizes(cpus=3, memory=512), "what is not given stays"


def test_resize_of_a_running_one_waits_for_the_next_boot(instance, record, hold):
    remember(made(instance), BootSettings())
    process = hold(instance.life.path)
    record.ready, record.pid, record.process_start = True, process.pid, process_start(process.pid)
    instance.write_record(record)
    report = resize("box", Sizes(memory=512))
    assert read_sizes(instance) == Sizes(memory=512)
    assert report.lines() == [
        "memory         512 MiB, from the next boot on",
        "next           inv restart --name box applies processors and memory: the instance runs",
    ]
    assert instance.state() is State.RUNNING


@pytest.mark.parametrize("running", [False, True])
def test_a_disk_that_would_shrink_changes_nothing(instance, hold, running):
    made(instance, 128 * MIB)
    if running:
        hold(instance.life.path)
    with pytest.raises(UsageError, match="cannot shrink to 64M") as error:
        resize("box", Sizes(cpus=2, data_disk=64 * MIB))
    assert error.value.hint
    assert read_sizes(instance) == Sizes()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "nothing to resize"),
        ({"cpus": "", "memory": None}, "nothing to resize"),
        ({"cpus": "0"}, "--cpus 0: "),
        ({"cpus": "many"}, "--cpus many: "),
        ({"memory": "1M"}, "--memory 1M: "),
        ({"data_disk": "big"}, "--disk big: `big` is not a size"),
    ],
)
def test_bad_values_end_with_2(values, text):
    with pytest.raises(UsageError) as error:
        resize_sizes(**values)
    assert str(error.value).startswith(text)
    assert error.value.hint
    assert error.value.exit_code == 2


def test_there_must_be_an_instance_to_resize(home):
    with pytest.raises(InstanceError, match="there is no instance `box`") as error:
        lifeverbs.resize("box", "2", "", "")
    assert error.value.hint
    assert not home.exists()


def test_an_instance_that_was_not_deleted_is_not_taken_again(instance):
    made(instance)
    assert take_again(instance) == []
    assert instance.data_disk.exists()
