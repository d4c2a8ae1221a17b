"""The life of an instance by the user's own commands: boot, status, stop, logs, ssh, recovery after every kind of kill."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cofferdam.errors import BootError
from cofferdam.machine import accel, api
from cofferdam.machine.facts import probe_host
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.settings import boot_settings
from cofferdam.paths import ROOT
from vmtest.flows import wait_until
from vmtest.machines import BOOT_TIMEOUT, Machines
from vmtest.verbs import SMALL, inv, row

pytestmark = [pytest.mark.vm, pytest.mark.slow]

NAME = "life"


def qemu_runs(instance: Instance) -> bool:
    """Whether QEMU itself is there: it alone writes its pid file, while the life lock is held by the command that starts it, before it does."""
    return instance.pidfile.exists() and instance.alive


@pytest.fixture(scope="module")
def booted(machines: Machines) -> Iterator[dict[str, Any]]:
    """An instance of the profile debug, booted by `inv boot`; its row of `inv status`, and what boot printed."""
    machines.image("debug")
    done = inv("boot", "--name", NAME, "--profile", "debug", *SMALL)
    assert done.returncode == 0, done.stderr
    yield {**row(NAME), "printed": done.stdout}
    api.stop(NAME, force=True)
    api.remove(NAME)


def test_boot_says_how_it_runs_how_long_it_took_and_how_to_reach_docker(booted: dict[str, Any]) -> None:
    text = booted["printed"]
    assert f"accelerator    {booted['accelerator']}: " in text
    assert all(f"{phase} " in text for phase in ("kernel", "user space", "Docker"))
    assert f"docker run ...   (its current context is `cofferdam-{NAME}`" in text
    for key in ("DOCKER_HOST=tcp://127.0.0.1:", "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH="):
        assert key in text


def docker(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker")
    if program is None:
        pytest.skip("there is no docker program on this machine")
    return subprocess.run([program, *words], env={**os.environ, **variables}, capture_output=True, text=True, timeout=240)


def test_docker_reaches_it_by_context_and_by_variables(booted: dict[str, Any]) -> None:
    by_context = docker("--context", f"cofferdam-{NAME}", "info", "--format", "{{.ID}}")
    by_variables = docker("info", "--format", "{{.ID}}", **booted["environment"])
    by_itself = docker("info", "--format", "{{.ID}}", DOCKER_HOST="", DOCKER_CONTEXT="")
    for each in (by_context, by_variables, by_itself):
        assert each.returncode == 0, each.stderr
    assert by_context.stdout == by_variables.stdout == by_itself.stdout != "\n"


def test_only_the_owner_can_read_the_instance(booted: dict[str, Any]) -> None:
    directory = Path(booted["directory"])
    readable = [path for path in (directory, *directory.rglob("*")) if stat.S_IMODE(path.lstat().st_mode) & 0o077]
    assert readable == []
    assert (Path(booted["cert_path"]) / "key.pem").stat().st_size > 0


def test_a_second_boot_of_a_running_instance_is_refused(booted: dict[str, Any]) -> None:
    done = inv("boot", "--name", NAME, "--profile", "debug")
    assert done.returncode == 6
    assert f"instance `{NAME}` is already running" in done.stderr
    assert f"inv stop --name {NAME}" in done.stderr
    assert row(NAME)["pid"] == booted["pid"]


def test_ssh_and_logs(booted: dict[str, Any]) -> None:
    done = inv("ssh", "--name", NAME, "--command", "echo $((40 + 2)); exit 7")
    assert (done.stdout.strip(), done.returncode) == ("42", 7)
    assert "DEBUG IMAGE" in inv("logs", "--name", NAME).stdout
    assert "Docker engine" in inv("logs", "--name", NAME, "--unit", "docker.service").stdout


def test_an_accelerator_that_cannot_work_is_an_error(machines: Machines) -> None:
    """Never a silent fallback: for each accelerator that this host cannot use, the reason and nothing started."""
    unusable = [item for item in accel.candidates(probe_host()) if not item.usable]
    assert unusable
    for item in unusable:
        done = inv("boot", "--name", "never", "--profile", "debug", "--accel", item.accelerator)
        assert done.returncode == 3
        assert item.reason in done.stderr
    assert Instance("never").state() is State.ABSENT


def test_up_does_not_take_a_machine_of_another_profile_for_the_wanted_one(booted: dict[str, Any], machines: Machines) -> None:
    machines.image("baseline")
    done = inv("up", "--name", NAME, "--profile", "baseline")
    assert done.returncode == 6
    assert "running with the profile debug, not baseline" in done.stderr
    assert row(NAME)["pid"] == booted["pid"]


def test_a_port_in_use_is_an_error(booted: dict[str, Any]) -> None:
    port = booted["docker_host"].rpartition(":")[2]
    done = inv("boot", "--name", "never", "--profile", "debug", "--docker-port", port)
    assert done.returncode == 6
    assert f"port {port}" in done.stderr
    assert Instance("never").settled_state() is not State.RUNNING
    api.remove("never")


def test_killed_qemu_is_noticed_and_the_next_boot_recovers(booted: dict[str, Any]) -> None:
    os.kill(booted["pid"], signal.SIGKILL)
    wait_until(lambda: not Instance(NAME).alive, "QEMU is gone", seconds=20)
    found = row(NAME)
    assert found["state"] == "stopped"
    assert "without `inv stop`" in found["note"]
    assert docker("context", "inspect", f"cofferdam-{NAME}").returncode != 0
    done = inv("boot", "--name", NAME, "--profile", "debug", *SMALL)
    assert done.returncode == 0, done.stderr
    assert row(NAME)["state"] == "running"
    assert row(NAME)["docker_host"] == booted["docker_host"], "the address changed although its port was free"


def test_stop_powers_the_guest_off_and_removes_the_context(booted: dict[str, Any]) -> None:
    """The data disk stays, and is grown by the next boot that asks for more."""
    if row(NAME)["state"] != "running":
        assert inv("boot", "--name", NAME, "--profile", "debug", *SMALL).returncode == 0
    assert docker("volume", "create", "kept", **row(NAME)["environment"]).returncode in (0, 1)
    done = inv("stop", "--name", NAME)
    assert done.returncode == 0
    assert "stopped in" in done.stdout
    assert f"docker context `cofferdam-{NAME}` removed" in done.stdout
    assert docker("context", "inspect", f"cofferdam-{NAME}").returncode != 0
    assert row(NAME)["state"] == "stopped"
    again = inv(
        "boot", "--name", NAME, "--profile", "debug", "--memory", "1G", "--data-disk", "3G", "--timeout", str(BOOT_TIMEOUT)
    )
    assert again.returncode == 0, again.stderr
    assert "grown" in again.stdout
    sizes = inv(
        "ssh", "--name", NAME, "--command", "df -B1 --output=size /var | tail -1; ls /var/lib/docker/volumes"
    ).stdout.split()
    assert int(sizes[0]) > 2.6 * 2**30
    assert "kept" in sizes
    smaller = inv("stop", "--name", NAME)
    assert smaller.returncode == 0
    refused = inv("boot", "--name", NAME, "--profile", "debug", "--data-disk", "1G")
    assert refused.returncode == 2
    assert "cannot shrink" in refused.stderr


def test_a_killed_boot_is_tidied_up_by_the_next_command(machines: Machines) -> None:
    machines.image("debug")
    command = [sys.executable, "-m", "invoke", "boot", "--name", "cut", "--profile", "debug", *SMALL]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    instance = Instance("cut")
    try:
        wait_until(lambda: qemu_runs(instance), "QEMU runs", seconds=60, pause=0.05)
        process.kill()
        process.wait()
        assert instance.state() is State.UNFINISHED
        done = inv("stop", "--name", "cut")
        assert done.returncode == 0, done.stderr
        assert not instance.alive
        assert instance.state() is State.STOPPED
    finally:
        process.kill()
        if instance.alive:
            instance.kill()
        api.remove("cut")


def test_interrupted_boot_leaves_no_machine_behind(machines: Machines) -> None:
    machines.image("debug")
    command = [sys.executable, "-m", "invoke", "boot", "--name", "ctrlc", "--profile", "debug", *SMALL]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts the tests in the background has them ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    instance = Instance("ctrlc")
    wait_until(lambda: qemu_runs(instance), "QEMU runs", seconds=60, pause=0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert instance.state() is State.STOPPED
    api.remove("ctrlc")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        # what `root=` says does not count: the verified root is named last
        (["init=/nonexistent"], "kernel panicked"),
        (["systemd.unit=no-such.target"], "systemd gave up|boot failed|failed"),
    ],
    ids=["no-init", "no-target"],
)
def test_a_boot_that_cannot_succeed_ends_at_once(machines: Machines, words: list[str], match: str) -> None:
    """The wait ends with the console's last lines long before the time-out."""
    image = machines.image("debug")
    broken = replace(image, cmdline=[*image.cmdline, *words])
    started = time.monotonic()
    with pytest.raises(BootError, match=match) as caught:
        api.boot(boot_settings(name="lost", profile="debug", memory="1G", timeout=BOOT_TIMEOUT), machines.progress, broken)
    assert time.monotonic() - started < BOOT_TIMEOUT / 2
    assert "last lines of the console" in str(caught.value)
    assert Instance("lost").state() is State.STOPPED
    api.remove("lost")


def test_a_foreign_data_disk_is_not_touched(machines: Machines) -> None:
    """The failed unit ends the wait, its journal says why, and the disk is as it was."""
    instance = Instance("foreign")
    instance.create()
    content = b"somebody else's data" + bytes(64 * 2**20)
    instance.data_disk.write_bytes(content)
    try:
        with pytest.raises(BootError, match="it is not touched"):
            api.boot(
                boot_settings(name="foreign", profile="debug", memory="1G", timeout=BOOT_TIMEOUT),
                machines.progress,
                machines.image("debug"),
            )
        assert instance.data_disk.read_bytes() == content
    finally:
        api.remove("foreign")


def test_the_released_profile_lets_nobody_in(machines: Machines) -> None:
    """The default profile: no ssh port, no getty, nothing but the Docker API; isolation holds without any of the test's doors."""
    machines.image("default")
    done = inv("boot", "--name", "closed", *SMALL)
    try:
        assert done.returncode == 0, done.stderr
        assert "ssh" not in row("closed")
        refused = inv("ssh", "--name", "closed")
        assert refused.returncode == 6
        assert "lets nobody in" in refused.stderr
    finally:
        api.stop("closed", force=True)
        api.remove("closed")
