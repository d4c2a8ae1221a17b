"""Settings: sizes, names, and errors that name the option as the command line has it."""

from __future__ import annotations

import inspect

import pytest
import tasks

from cofferdam.errors import UsageError
from cofferdam.machine.instance import Instance
from cofferdam.machine.settings import BootSettings, boot_settings, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20G", 20 * 2**30),
        ("512M", 512 * 2**20),
        ("512m", 512 * 2**20),
        ("1.5G", None),
        ("4GiB", 4 * 2**30),
        ("4gb", 4 * 2**30),
        ("1T", 2**40),
        ("64k", 2**16),
        ("2048", 2048 * 2**20),
        (2048, 2048 * 2**20),
        (" 2G ", 2**31),
        ("", None),
        ("-1G", None),
        ("G", None),
        ("2 G", None),
        ("2X", None),
        ("2G; rm", None),
    ],
)
def test_sizes(text, size):
    if size is None:
        with pytest.raises(ValueError, match="is not a size"):
            parse_size(text)
    else:
        assert parse_size(text) == size


def test_defaults_and_empty_values():
    settings = boot_settings(name="", memory=None, data_disk="", accel="auto")
    assert settings == BootSettings()
    assert (settings.name, settings.profile, settings.memory, settings.data_disk) == ("default", "default", 2048, None)
    assert 1 <= settings.cpus <= 4


def test_command_line_texts_become_numbers():
    settings = boot_settings(cpus="2", memory="4G", data_disk="40G", docker_port="2376", timeout="90")
    assert (settings.cpus, settings.memory, settings.data_disk) == (2, 4096, 40 * 2**30)
    assert (settings.docker_port, settings.timeout) == (2376, 90.0)


WRONG = [
    ("name", "Work", "--name"),
    ("name", "-a", "--name"),
    ("name", "a" * 33, "--name"),
    ("name", "../etc", "--name"),
    ("accel", "xen", "--accel"),
    ("cpus", "0", "--cpus"),
    ("cpus", "two", "--cpus"),
    ("memory", "128M", "--memory"),
    ("memory", "lots", "--memory"),
    ("data_disk", "1M", "--data-disk"),
    ("data_disk", "9999999999999T", "--data-disk"),
    ("docker_port", "70000", "--docker-port"),
    ("ssh_port", "0", "--ssh-port"),
    ("timeout", "-1", "--timeout"),
]


@pytest.mark.parametrize(("key", "value", "option"), WRONG)
def test_errors_name_the_option_and_the_value(key, value, option):
    with pytest.raises(UsageError) as error:
        boot_settings(**{key: value})
    assert str(error.value).startswith(f"{option} {value}: ")
    assert error.value.hint


def test_named_options_are_those_of_the_command_line():
    known = {name.replace("_", "-") for name in inspect.signature(inspect.unwrap(tasks.boot.body)).parameters}
    assert {option.removeprefix("--") for _, _, option in WRONG} <= known


def test_all_errors_are_told_at_once():
    with pytest.raises(UsageError) as error:
        boot_settings(cpus="0", memory="1M")
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("name", ["default", "a", "a-b", "0", "a" * 32])
def test_names(name):
    assert boot_settings(name=name).name == Instance(name).name == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a" * 33, "a/b", "..", "a b", "a\n", "ä"])
def test_names_that_are_refused(name):
    with pytest.raises(UsageError):
        Instance(name)


def test_unknown_settings_are_refused():
    with pytest.raises(UsageError, match="--cpu "):
        boot_settings(cpu="2")
