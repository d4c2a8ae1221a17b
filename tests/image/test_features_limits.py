"""Resource limits: what goes beyond them is killed, throttled or refused, and the VM lives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmtest.flows import Box, box, wait_until
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

LIMITS = (
    "--memory=64m",
    "--memory-swap=64m",
    "--cpus=0.5",
    "--cpuset-cpus=0",
    "--pids-limit=100",
    "--ulimit",
    "nofile=64:64",
    "--shm-size=1m",
)
THROTTLED = "awk '$1 == \"nr_throttled\" {print $2}' /sys/fs/cgroup/cpu.stat"
USED = "awk '$1 == \"usage_usec\" {print $2}' /sys/fs/cgroup/cpu.stat"


@pytest.fixture(scope="module")
def limited(vm: Vm) -> Iterator[Box]:
    """One container with every limit; init reaps what the tests kill."""
    with box(vm, "--init", *LIMITS) as made:
        yield made


@pytest.mark.both
def test_memory_limit_kills(vm: Vm, limited: Box) -> None:
    assert limited.sh("sh -c 'tail /dev/zero >/dev/null' || echo ended with $?") == "ended with 137"
    assert limited.sh("awk '$1 == \"oom_kill\" {print ($2 > 0)}' /sys/fs/cgroup/memory.events") == "1"
    assert limited.inspect("{{.State.Running}}") == "true"
    assert int(vm.shell("awk '/MemAvailable/ {print $2}' /proc/meminfo")) > 64 * 1024


@pytest.mark.both
def test_memory_limit_ends_a_container(vm: Vm) -> None:
    name = vm.name()
    # the control group stays a moment longer: on a busy machine containerd may not have heard of the kill when it is gone
    script = "tail /dev/zero; status=$?; sleep 3; exit $status"
    limits = ("--memory=32m", "--memory-swap=32m")
    done = vm.docker("run", "--name", name, *limits, vm.image("busybox"), "sh", "-c", script, check=False)
    assert done.returncode == 137
    assert vm.succeed("inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", name).split() == ["true", "137"]


@pytest.mark.isolation(why="plain Docker shows the VM's memory in /proc/meminfo")
def test_meminfo_shows_the_limit(limited: Box) -> None:
    assert int(limited.sh("awk '$1 == \"MemTotal:\" {print $2}' /proc/meminfo")) == 64 * 1024


@pytest.mark.both
def test_cpu_limit_throttles(limited: Box) -> None:
    script = f"a=$({THROTTLED}); u=$({USED}); timeout 4 sh -c 'while :; do :; done' || :; b=$({THROTTLED}); v=$({USED}); echo $((b - a)) $((v - u))"
    periods, used = map(int, limited.sh(script + " || :").split())
    assert periods > 5
    assert used < 0.5 * 4.6e6, f"{used / 1e6} s of processor time in 4 s"


@pytest.mark.both
def test_cpuset_governs_nproc(vm: Vm, limited: Box) -> None:
    if int(vm.shell("nproc")) < 2:
        pytest.skip("the VM has one processor")
    assert limited.sh("nproc; grep Cpus_allowed_list /proc/self/status").split() == ["1", "Cpus_allowed_list:", "0"]


@pytest.mark.both
def test_pids_limit(limited: Box) -> None:
    """100 processes are the most: the loop is stopped by a fork that fails, and the container can go on after it."""
    # They live as long as the loop, however slow the machine: what sees to their end needs no further process.
    script = "trap 'kill 0' EXIT; i=0; while [ $i -lt 130 ]; do sleep 300 & i=$((i + 1)); done"
    limited.refuses(script, match="can't fork|Resource temporarily unavailable")
    assert limited.sh("cat /sys/fs/cgroup/pids.peak 2>/dev/null || echo 100") == "100"
    wait_until(lambda: int(limited.sh("cat /sys/fs/cgroup/pids.current")) < 10, "the processes end with the loop")


@pytest.mark.both
def test_ulimit_and_shm_size(limited: Box) -> None:
    assert limited.sh("ulimit -n") == "64"
    limited.refuses("dd if=/dev/zero of=/dev/shm/big bs=64k count=32", match="No space left")
    limited.sh("rm -f /dev/shm/big")


def test_update_changes_a_running_container(vm: Vm) -> None:
    grow = "dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null"
    with box(vm, "--init", "--memory=24m", "--memory-swap=24m") as made:
        assert made.sh(f"sh -c '{grow}' || echo ended with $?") == "ended with 137"
        vm.succeed("update", "--memory=128m", "--memory-swap=128m", "--pids-limit=7", made.name)
        assert made.sh(f"sh -c '{grow}' && echo fits") == "fits"
        made.refuses(
            "trap 'kill 0' EXIT; for i in 1 2 3 4 5 6 7 8 9; do sleep 300 & done", match="can't fork|Resource temporarily"
        )


def test_all_containers_together_leave_room_for_the_machine(vm: Vm) -> None:
    """A container without any limit that eats all it can get is ended, and neither dockerd nor another container suffers."""
    before = vm.shell("systemctl show --property=MainPID docker.service containerd.service")
    with box(vm) as other:
        done = vm.docker("run", "--rm", vm.image("busybox"), "tail", "/dev/zero", check=False)
        assert done.returncode == 137
        assert other.sh("echo alive") == "alive"
    assert vm.shell("systemctl show --property=MainPID docker.service containerd.service") == before
    total = int(vm.shell("awk '/MemTotal/ {print $2 * 1024}' /proc/meminfo"))
    assert total - 320 * 2**20 < int(vm.shell("cat /sys/fs/cgroup/docker/memory.max")) < total - 192 * 2**20
    assert int(vm.shell("cat /sys/fs/cgroup/docker/pids.max")) < int(vm.shell("cat /proc/sys/kernel/threads-max"))
