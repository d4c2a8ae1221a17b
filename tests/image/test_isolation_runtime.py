"""The runtime's command line and the engine's settings: what is not understood starts nothing, and no spelling gets past the wrapper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vmtest.handmade import Bench, bench_on
from vmtest.vm import Vm

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def bench(vm: Vm) -> Iterator[Bench]:
    with bench_on(vm) as made:
        yield made


WORDS = {
    "named-create": ("create", "create", "--bundle", "@FOLDER@", "create"),
    "named-delete": ("delete", "create", "--bundle", "@FOLDER@", "delete"),
    "short-option": ("", "create", "-b", "@FOLDER@", "@NAME@"),
    "equals": ("", "create", "--bundle=@FOLDER@", "@NAME@"),
    "working-directory": ("", "create", "@NAME@"),
    "log-named-state": ("", "--log", "state", "create", "--bundle", "@FOLDER@", "@NAME@"),
    "log-format": ("", "--log-format", "json", "--log=/dev/null", "create", "--bundle", "@FOLDER@", "@NAME@"),
    "detached-run": ("", "run", "--detach", "--bundle", "@FOLDER@", "@NAME@"),
    "pid-file": ("", "create", "--pid-file", "@FOLDER@/delete", "--bundle", "@FOLDER@", "@NAME@"),
    "debug": ("", "--debug", "create", "--bundle", "@FOLDER@", "@NAME@"),
}


@pytest.mark.parametrize("case", WORDS)
@pytest.mark.isolation(why="stock runc maps no ids")
def test_command_line_is_read_as_the_low_level_runtime_reads_it(bench: Bench, case: str) -> None:
    container, *words = WORDS[case]
    bench.isolated(bench.create(bench.spec(), *words, container=container))


CROOKED = {
    "end-of-options": ("--", "create", "--bundle", "@FOLDER@", "@NAME@"),
    "shortened-log": ("--log-l", "debug", "create", "--bundle", "@FOLDER@", "@NAME@"),
    "shortened-manager": ("--cgroup-m", "cgroupfs", "create", "--bundle", "@FOLDER@", "@NAME@"),
    "unknown-global": ("--no-such-option", "create", "--bundle", "@FOLDER@", "@NAME@"),
    "unknown-global-with-value": ("--no-such-option", "x", "create", "--bundle", "@FOLDER@", "@NAME@"),
    "shortened-bundle": ("create", "--bun", "@FOLDER@", "@NAME@"),
    "options-last": ("create", "@NAME@", "--bundle", "@FOLDER@"),
    "other-configuration": ("create", "--config", "@FOLDER@/config.json", "--bundle", "@FOLDER@", "@NAME@"),
    "short-configuration": ("create", "-f", "@FOLDER@/config.json", "--bundle", "@FOLDER@", "@NAME@"),
    "glued-configuration": ("create", "-f@FOLDER@/config.json", "--bundle", "@FOLDER@", "@NAME@"),
    "no-pivot": ("create", "--no-pivot", "--bundle", "@FOLDER@", "@NAME@"),
    "systemd": ("--systemd-cgroup", "create", "--bundle", "@FOLDER@", "@NAME@"),
    "two-names": ("create", "--bundle", "@FOLDER@", "@NAME@", "other"),
}


@pytest.mark.parametrize("case", CROOKED)
def test_crooked_command_line_starts_nothing_unmapped(bench: Bench, case: str) -> None:
    """Refused or isolated; never handed on without a look because the wrapper took another word for the verb."""
    answer = bench.create(bench.spec(), *CROOKED[case])
    if answer["status"] == 0:
        bench.isolated(answer)


@pytest.mark.parametrize("container", ["..", ".", "a/b", "../x", "a b", ""])
def test_container_name_that_is_a_path_is_refused(bench: Bench, container: str) -> None:
    answer = bench.create(bench.spec(), "create", "--bundle", "@FOLDER@", container, container="none")
    assert answer["status"] != 0
    assert "is not a container id" in answer["message"]


@pytest.mark.parametrize("verb", ["restore", "checkpoint"])
def test_checkpoints_are_refused(bench: Bench, verb: str) -> None:
    answer = bench.create(bench.spec(), verb, "--image-path", "/run", "--bundle", "@FOLDER@", "@NAME@")
    assert answer["status"] != 0
    assert f"{verb} is not supported" in answer["message"]


@pytest.mark.isolation(why="a process that joins a container of stock runc has the VM's ids")
def test_exec_gets_no_more_than_the_container(bench: Bench) -> None:
    script = "cat /proc/self/uid_map; echo x >/proc/sys/kernel/core_pattern || echo kept"
    answer = bench.create(
        bench.spec(), "run", "--detach", "--bundle", "@FOLDER@", "@NAME@", then=("exec", "@NAME@", "sh", "-c", script)
    )
    bench.isolated(answer)
    status, output = answer["then"]
    assert status == 0, output
    assert output.split()[:3] == answer["uids"]
    assert output.split()[-1] == "kept"


@pytest.mark.isolation(why="the low-level runtime can bind a directory of the VM into a running container")
def test_mounts_cannot_be_added_to_a_running_container(bench: Bench) -> None:
    answer = bench.create(bench.spec(), then=("mounts", "add", "@NAME@", "/dev/stdin"))
    bench.isolated(answer)
    assert answer["then"][0] != 0
    assert "mounts is not a verb of this runtime" in answer["then"][1]


# --- the engine's settings


BROKEN = {
    "empty": "",
    "cut-off": '{"version": 1, "docker": {"root": "/var/lib/docker"',
    "unknown-key": '{"version": 1, "docker": {"root": "/var/lib/docker", "daemon": "/usr/sbin/dockerd"}, "ids": {"first": 100000, "size": 65536, "count": 4096}, '
    '"shares": {"roots": []}, "mounts": {"allow_read_only": [], "allow_read_write": [], "deny": []}, "isolation": false}',
    "other-version": '{"version": 2, "docker": {"root": "/var/lib/docker", "daemon": "/usr/sbin/dockerd"}, "ids": {"first": 100000, "size": 65536, "count": 4096}, '
    '"shares": {"roots": []}, "mounts": {"allow_read_only": [], "allow_read_write": [], "deny": []}}',
    "ids-of-the-vm": '{"version": 1, "docker": {"root": "/var/lib/docker", "daemon": "/usr/sbin/dockerd"}, "ids": {"first": 0, "size": 65536, "count": 4096}, '
    '"shares": {"roots": []}, "mounts": {"allow_read_only": [], "allow_read_write": [], "deny": []}}',
}


@contextmanager
def over(vm: Vm, content: str | None) -> Iterator[None]:
    """Other settings, or a directory without any, for a while."""
    directory = "/run/cofferdam/policy"
    vm.shell(f"mkdir -p {directory}; mount -t tmpfs tmpfs {directory}")
    if content is not None:
        vm.shell(f"printf %s '{content}' >{directory}/engine.json")
    try:
        yield
    finally:
        vm.shell(f"umount {directory}")


@pytest.mark.parametrize("content", [*BROKEN.values(), None], ids=[*BROKEN, "missing"])
@pytest.mark.isolation(why="plain Docker starts containers whatever the engine's settings are")
def test_without_usable_settings_nothing_starts(vm: Vm, bench: Bench, content: str | None) -> None:
    with over(vm, content):
        vm.fail("run", "--rm", vm.image("busybox"), "true", match="no usable settings.*/run/cofferdam/policy/engine.json")
        assert bench.made.sh("echo still running") == "still running"
    assert vm.run(command=("echo", "again")).strip() == "again"
