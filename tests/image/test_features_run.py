"""Ordinary options and verbs of docker: they work on shifted containers as on any others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from vmtest.flows import Box, base_of, box, new_name, wait_until
from vmtest.vm import Vm

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def idle(vm: Vm) -> Iterator[Box]:
    """A shifted container that tests look at; it prints a line on each stream when it starts, and one on SIGUSR1."""
    script = "echo out; echo err >&2; trap 'echo signalled' USR1; while :; do sleep 0.2; done"
    with box(vm, "--ipc", "shareable", command=("sh", "-c", script)) as made:
        assert made.base > 0
        yield made


def test_init_reaps_orphans(vm: Vm) -> None:
    with box(vm, "--init") as made:
        assert "init" in made.sh("cat /proc/1/comm")
        made.sh("(sleep 0.3 &) ; sleep 0.1")
        wait_until(
            lambda: "sleep 0.3" not in made.sh("ps -o stat,args") and " Z" not in made.sh("ps -o pid,stat"), "the orphan is gone"
        )
        started = time.monotonic()
        vm.succeed("stop", "--time", "60", made.name)
        assert time.monotonic() - started < 40, "init did not pass SIGTERM on"


def test_user_directory_environment_and_names(vm: Vm) -> None:
    options = (
        "-w",
        "/made/here",
        "--user",
        "1001:1002",
        "--env",
        "WORD=a b",
        "--hostname",
        "named",
        "--add-host",
        "peer:192.0.2.7",
        "--dns",
        "192.0.2.53",
    )
    script = "pwd; id -u; id -g; echo $WORD; hostname; grep -c '192.0.2.7.peer' /etc/hosts; grep -c 192.0.2.53 /etc/resolv.conf; stat -c %u /made/here /etc/hosts"
    output = vm.succeed("run", "--rm", *options, vm.image("busybox"), "sh", "-ec", script)
    assert output.strip().split("\n") == ["/made/here", "1001", "1002", "a b", "named", "1", "1", "0", "0"]


def test_standard_streams_belong_to_the_user(vm: Vm) -> None:
    """A non-root user may open /dev/stdout again, as web servers do for their logs."""
    script = "echo out >/dev/stdout; echo err >/dev/stderr; echo null >/dev/null; head -c 4 /dev/urandom | wc -c"
    done = vm.docker("run", "--rm", "--user", "1001", vm.image("busybox"), "sh", "-ec", script, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr.split()) == (0, ["out", "4"], ["err"])


def test_terminal(vm: Vm) -> None:
    script = "tty; test -t 0 && test -t 1 && echo both; stat -c %u $(tty); echo x >$(tty)"
    output = vm.succeed("run", "--rm", "--tty", "--user", "1001", vm.image("busybox"), "sh", "-ec", script)
    assert output.split() == ["/dev/pts/0", "both", "1001", "x"]


def test_sysctl_of_the_container(vm: Vm) -> None:
    options = ("--sysctl", "net.core.somaxconn=321", "--sysctl", "kernel.shmmax=123456", "--sysctl", "net.ipv4.ip_forward=0")
    files = "/proc/sys/net/core/somaxconn /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward"
    before = vm.shell(f"cat {files}")
    output = vm.succeed(
        "run",
        "--rm",
        *options,
        vm.image("busybox"),
        "sh",
        "-c",
        f"cat {files}; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo ping",
        timeout=120,
    )
    assert output.split() == ["321", "123456", "0", "ping"]
    assert vm.shell(f"cat {files}") == before


PING = """
import socket
ping = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
ping.settimeout(10)
ping.sendto(b"\\x08\\x00\\x00\\x00\\x00\\x01\\x00\\x01hello", ("127.0.0.1", 0))
print(ping.recv(100)[-5:].decode())
"""


def test_ping_as_a_non_root_user(vm: Vm) -> None:
    """Docker's `ping_group_range` reaches as far as the container's groups do: an echo request without any capability."""
    options = ("--user", "1001:65535", "--cap-drop", "ALL")
    assert vm.run(*options, image="debian", command=["python3", "-c", PING]).strip() == "hello"


def test_joined_pid_namespace(vm: Vm, idle: Box) -> None:
    output = vm.succeed(
        "run",
        "--rm",
        "--pid",
        f"container:{idle.name}",
        vm.image("busybox"),
        "sh",
        "-c",
        "cat /proc/self/uid_map; ps -o pid,args; kill -USR1 1",
    )
    assert base_of(output) == idle.base
    assert "trap 'echo signalled'" in output
    wait_until(lambda: "signalled" in vm.succeed("logs", idle.name), "the signal from the joined container")


def test_joined_ipc_namespace(vm: Vm, idle: Box) -> None:
    idle.sh("echo shared >/dev/shm/word; chmod 600 /dev/shm/word")
    script = "cat /proc/self/uid_map; cat /dev/shm/word; stat -c %u:%g /dev/shm/word; echo back >/dev/shm/back; readlink /proc/self/ns/ipc"
    output = vm.succeed("run", "--rm", "--ipc", f"container:{idle.name}", vm.image("busybox"), "sh", "-ec", script)
    assert base_of(output) == idle.base
    lines = output.strip().split("\n")[1:]
    assert lines == ["shared", "0:0", idle.sh("readlink /proc/self/ns/ipc")]
    assert idle.sh("cat /dev/shm/back; stat -c %u:%g /dev/shm/back").split() == ["back", "0:0"]


def test_private_ipc_namespace_cannot_be_joined(vm: Vm) -> None:
    with box(vm, "--ipc", "private") as made:
        vm.fail("run", "--rm", "--ipc", f"container:{made.name}", vm.image("busybox"), "true", match="non-shareable IPC")


def test_logs(vm: Vm, idle: Box) -> None:
    done = vm.docker("logs", idle.name)
    assert done.stdout.split("\n")[0] == "out"
    assert done.stderr.split("\n")[0] == "err"


def test_exec_streams_status_user_and_directory(vm: Vm, idle: Box) -> None:
    assert idle.exec("cat", options=["--interactive"], input=b"through stdin\n") == "through stdin\n"
    assert vm.docker("exec", idle.name, "sh", "-c", "exit 7", check=False).returncode == 7
    options = ("--user", "1001:1002", "--workdir", "/tmp", "--env", "WORD=given")
    assert idle.sh("id -u; id -g; pwd; echo $WORD", *options).split() == ["1001", "1002", "/tmp", "given"]
    assert vm.docker("exec", idle.name, "/no/such/program", check=False).returncode in (126, 127)
    assert idle.sh("tty", "--tty").strip().startswith("/dev/pts/")


def test_stats_and_top(vm: Vm, idle: Box) -> None:
    usage = vm.succeed("stats", "--no-stream", "--format", "{{.MemUsage}};{{.PIDs}};{{.NetIO}}", idle.name).strip().split(";")
    assert usage[0].split(" / ")[0] not in ("0B", "--")
    assert int(usage[1]) >= 1
    lines = vm.succeed("top", idle.name, "-eo", "pid,uid,args").strip().split("\n")[1:]
    rows = {int(line.split()[0]): int(line.split()[1]) for line in lines}
    assert rows[idle.pid] == idle.base


def test_attach_with_input(vm: Vm) -> None:
    name, script = vm.name(), "read word; echo got $word; exit 3"
    vm.succeed("create", "--interactive", "--name", name, vm.image("busybox"), "sh", "-c", script)
    done = vm.docker("start", "--attach", "--interactive", name, input=b"hello\n", check=False)
    assert (done.stdout, done.returncode) == ("got hello\n", 3)


def test_pause_stops_all_work(vm: Vm) -> None:
    counter = "i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.1; done"
    with box(vm, command=("sh", "-c", counter)) as made:
        count = f"cat /proc/{made.pid}/root/count"
        wait_until(lambda: vm.shell(f"{count} 2>/dev/null || echo 0").strip() not in ("", "0"), "the counter runs")
        vm.succeed("pause", made.name)
        first = vm.shell(count)
        time.sleep(1.5)
        assert vm.shell(count) == first
        assert made.inspect("{{.State.Status}}") == "paused"
        vm.succeed("unpause", made.name)
        wait_until(lambda: vm.shell(count) != first, "the counter goes on")


def test_kill_and_wait(vm: Vm) -> None:
    with box(vm, command=("sh", "-c", "trap 'exit 42' TERM; while :; do sleep 0.1; done")) as made:
        vm.succeed("kill", "--signal", "TERM", made.name)
        assert vm.succeed("wait", made.name).strip() == "42"
        vm.succeed("start", made.name)
        vm.succeed("kill", made.name)
        assert vm.succeed("wait", made.name).strip() == "137"


def test_rename(vm: Vm) -> None:
    with box(vm, "--hostname", "first") as made:
        renamed = Box(vm, new_name())
        vm.succeed("rename", made.name, renamed.name)
        try:
            assert renamed.sh("hostname; echo x >/x; stat -c %u /x").split() == ["first", "0"]
            assert vm.docker("inspect", made.name, check=False).returncode != 0
            vm.succeed("restart", "--time", "0", renamed.name)
            assert renamed.sh("cat /x") == "x"
        finally:
            renamed.remove()


def test_restart_policies(vm: Vm) -> None:
    with (
        box(vm, "--restart", "on-failure:2", command=("sh", "-c", "cat /proc/self/uid_map; exit 3")) as failing,
        box(vm, "--restart", "always") as lasting,
    ):
        old = lasting.pid
        vm.shell(f"kill -KILL {old}")
        wait_until(
            lambda: lasting.inspect("{{.State.Running}} {{.State.Pid}}").split()[0] == "true" and lasting.pid not in (0, old),
            "the restart",
        )
        assert lasting.base > 0
        wait_until(lambda: failing.inspect("{{.RestartCount}} {{.State.Status}}").split() == ["2", "exited"], "two restarts")
        lines = vm.succeed("logs", failing.name).strip().split("\n")
        assert len(lines) == 3
        assert all(base_of(line) > 0 for line in lines)


def test_removed_container_leaves_no_mount_process_or_range(vm: Vm) -> None:
    mounts, ranges = "grep -c . /proc/self/mountinfo", "ls /run/cofferdam/idrange | wc -l"
    before = vm.shell(f"{mounts}; {ranges}")
    with box(vm, "-v", "/anonymous", "--tmpfs", "/scratch") as made:
        pid, base = made.pid, made.base
        assert vm.shell(f"test -d /proc/{pid} && echo there").strip() == "there"
    wait_until(lambda: vm.shell(f"test -d /proc/{pid} || echo gone").strip() == "gone", "the process ends")
    wait_until(lambda: vm.shell(f"{mounts}; {ranges}") == before, "mounts and ranges are as before", seconds=20)
    with box(vm) as again:
        assert again.base == base
