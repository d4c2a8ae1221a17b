"""Who a container is: an exclusive range of user and group ids, the lowest free one, whatever the options, and free again whatever the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from vmtest.flows import FIRST, FOREVER, RANGE, Box, base_of, box, new_name, shifted_base, start, wait_until
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

MANY = 50
MAPS = ("cat", "/proc/self/uid_map", "/proc/self/gid_map")

IN_USE = """
import json, os
found = set()
for pid in filter(str.isdecimal, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/uid_map") as file:
            found.update(int(line.split()[1]) for line in file)
    except OSError:
        pass
print(json.dumps(sorted(found - {0})))
"""

MAPS_OF = """
import json, sys
print(json.dumps([[open(f"/proc/{pid}/{kind}_map").read().split() for kind in ("uid", "gid")] for pid in json.loads(sys.argv[1])]))
"""


def free(vm: Vm, count: int = 1) -> list[int]:
    """The lowest ranges that no process of the VM lives in: what the next containers must get."""
    taken = set(vm.python(IN_USE))
    return [base for base in range(FIRST, FIRST + RANGE * (len(taken) + count), RANGE) if base not in taken][:count]


def line(base: int, size: int = RANGE) -> str:
    """A map as the kernel prints it."""
    return f"{0:>10} {base:>10} {size:>10}\n"


def maps_of(vm: Vm, boxes: list[Box]) -> list[int]:
    """The bases of running containers as the VM sees them; user and group map must be the same whole range."""
    found = vm.python(MAPS_OF, json.dumps([each.pid for each in boxes]))
    for uids, gids in found:
        assert uids == gids
        assert (uids[0], uids[2]) == ("0", str(RANGE)), uids
    return [int(uids[1]) for uids, _ in found]


@pytest.mark.isolation(why="plain Docker maps nothing")
def test_first_and_second_container(vm: Vm) -> None:
    """`0 100000 65536` and `0 165536 65536`, for users and groups, in the kernel's own spelling, when no other container runs."""
    running = vm.succeed("ps", "--quiet").split()
    first, second = free(vm, 2)
    with box(vm) as one, box(vm) as two:
        texts = [made.exec(*MAPS) for made in (one, two)]
    assert texts == [line(first) * 2, line(second) * 2]
    if not running:
        assert (first, second) == (100000, 165536)
        assert texts[0].startswith("         0     100000      65536\n")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="plain"),
        pytest.param(("--userns=host",), id="userns-host"),
        pytest.param(("--privileged",), id="privileged"),
        pytest.param(
            ("--privileged", "--userns=host", "--cgroupns=host", "--security-opt", "seccomp=unconfined"), id="everything"
        ),
        pytest.param(("--runtime=runc",), id="runc"),
        pytest.param(("--runtime=io.containerd.runc.v2",), id="shim"),
        pytest.param(("--runtime=runc", "--userns=host", "--privileged"), id="runc-userns-host-privileged"),
        pytest.param(("--runtime=sysbox-runc",), id="sysbox-runc"),
        pytest.param(("--runtime=cofferdam",), id="cofferdam"),
        pytest.param(("--user", "1001:1002"), id="user"),
        pytest.param(("--init",), id="init"),
        pytest.param(("--network=none", "--cap-drop=ALL"), id="bare"),
    ],
)
@pytest.mark.isolation(why="no option changes that a container is shifted, and the aliases exist")
def test_options_do_not_change_the_range(vm: Vm, options: tuple[str, ...]) -> None:
    (base,) = free(vm)
    assert vm.run(*options, command=MAPS) == line(base) * 2


@pytest.mark.isolation(why="processes that join a container have its map")
def test_exec_has_the_same_map(vm: Vm) -> None:
    (base,) = free(vm)
    with box(vm) as made:
        for options in ((), ("--privileged",), ("--user", "1001"), ("--privileged", "--user", "0", "--tty")):
            assert made.exec(*MAPS, options=options).replace("\r", "") == line(base) * 2
        assert made.exec("cat", "/proc/1/uid_map", "/proc/1/gid_map") == line(base) * 2
        assert maps_of(vm, [made]) == [base]
        assert vm.shell(f"stat -c %u:%g /proc/{made.pid}").strip() == f"{base}:{base}"


@pytest.mark.isolation(why="the range of a removed container is the next one's")
def test_range_is_reused_after_removal(vm: Vm) -> None:
    first, second, third = free(vm, 3)
    with box(vm) as one, box(vm) as two:
        assert [one.base, two.base] == [first, second]
        one.remove()
        with box(vm) as again, box(vm) as more:
            assert [again.base, two.base, more.base] == [first, second, third]
    assert free(vm) == [first]


START_ALL = """
import json, socket, sys, threading
answers = {}
barrier = threading.Barrier(len(sys.argv) - 1)
def start(name):
    door = socket.socket(socket.AF_UNIX)
    door.connect("/run/docker.sock")
    barrier.wait()
    door.sendall(f"POST /containers/{name}/start HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n".encode())
    answers[name] = door.makefile("rb").read().decode()
threads = [threading.Thread(target=start, args=[name]) for name in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([answer for answer in answers.values() if " 204 " not in answer.partition("\\n")[0]]))
"""


@contextmanager
def started_at_once(vm: Vm, count: int) -> Iterator[list[Box]]:
    """So many containers, all asked for at the same moment."""
    names = [new_name("many") for _ in range(count)]
    image = vm.image("busybox")
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda name: vm.succeed("create", "--name", name, "--network", "none", image, *FOREVER), names))
        failures = vm.python(START_ALL, *names)
        assert failures == []
        yield [Box(vm, name) for name in names]
    finally:
        # one after the other: dockerd gives up on a container that does not end in ten seconds, as none does when all are asked at once
        for name in names:
            vm.docker("rm", "--force", name, check=False)


def pids(vm: Vm, boxes: list[Box]) -> list[int]:
    return [int(each) for each in vm.succeed("inspect", "--format", "{{.State.Pid}}", *(made.name for made in boxes)).split()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.isolation(why="plain Docker gives all containers the VM's own ids")
def test_ranges_of_many_at_once_are_disjoint(vm: Vm) -> None:
    count = MANY if vm.isolated else 3  # the control needs no crowd
    before = free(vm, count)
    with started_at_once(vm, count) as boxes:
        found = vm.python(MAPS_OF, json.dumps(pids(vm, boxes)))
        assert all(uids == gids and uids[0] == "0" and uids[2] == str(RANGE) for uids, gids in found), found
        assert sorted(int(uids[1]) for uids, _ in found) == before
    assert free(vm, count) == before
    with box(vm) as made:
        assert made.base == before[0]


# --- the range after an end that nobody announced


def stopped(made: Box) -> bool:
    return made.inspect("{{.State.Running}}") == "false"


def recovers(vm: Vm, base: int) -> None:
    """The next container gets the range that was held, and works in it."""
    with box(vm) as made:
        assert shifted_base(made.exec("cat", "/proc/self/uid_map")) == base
        assert made.sh("echo x >/file; stat -c %u:%g /file") == "0:0"


def parent_of(vm: Vm, pid: int) -> int:
    return int(vm.shell(f"awk '/^PPid:/ {{print $2}}' /proc/{pid}/status"))


def test_range_after_the_first_process_was_killed(vm: Vm) -> None:
    (base,) = free(vm)
    with box(vm) as made:
        assert made.base == base
        vm.shell(f"kill -KILL {made.pid}")
        wait_until(lambda: stopped(made), "dockerd sees the end")
        recovers(vm, base)


def test_range_after_docker_kill_and_while_stopped(vm: Vm) -> None:
    """A stopped container holds no range; started again it gets the lowest free one like everybody."""
    first, second = free(vm, 2)
    with box(vm) as made:
        vm.succeed("kill", made.name)
        wait_until(lambda: stopped(made), "dockerd sees the end")
        with box(vm) as taker:
            assert taker.base == first
            vm.succeed("start", made.name)
            assert made.base == second
        vm.succeed("restart", "--time", "0", made.name)
        assert made.base == first


def test_range_after_the_shim_was_killed(vm: Vm) -> None:
    (base,) = free(vm)
    with box(vm) as made:
        shim = parent_of(vm, made.pid)
        assert "shim" in vm.shell(f"cat /proc/{shim}/comm")
        vm.shell(f"kill -KILL {shim}")
        wait_until(lambda: stopped(made), "dockerd sees the end")
        wait_until(lambda: free(vm) == [base], "no process is left in the range")
        recovers(vm, base)


def test_range_while_a_container_without_its_shim_still_runs(vm: Vm) -> None:
    """Between the shim's death and the clean-up the range belongs to the processes that live in it: never to a second container."""
    with box(vm) as made:
        base, pid = made.base, made.pid
        vm.shell(f"kill -KILL {parent_of(vm, pid)}")
        with box(vm) as other:
            alive = vm.shell(f"test -d /proc/{pid} && echo alive || true").strip() == "alive"
            assert not (alive and other.base == base), "two containers in one range"


@pytest.mark.parametrize(
    ("options", "command", "match"),
    [
        pytest.param((), "/no/such/program", "no such file|not found", id="program"),
        pytest.param(("-v", "/etc/docker:/x"), "true", "restricted host mount", id="mount"),
        pytest.param(("--workdir", "/bin/busybox"), "true", "not a directory|chdir|cwd", id="directory"),
        pytest.param(("--ulimit", "nofile=1:1"), "true", "", id="limit"),
    ],
)
def test_range_after_a_failed_start(vm: Vm, options: tuple[str, ...], command: str, match: str) -> None:
    (base,) = free(vm)
    name = vm.name()
    done = vm.docker("run", "--name", name, *options, vm.image("busybox"), command, check=False)
    assert done.returncode != 0
    message = (done.stderr + done.stdout).lower()
    assert any(word in message for word in match.split("|")), message
    recovers(vm, base)
    assert free(vm) == [base]


ONE_RANGE = """
import json
with open("/run/cofferdam/policy/engine.json") as file:
    settings = json.load(file)
settings["ids"]["count"] = 1
print(json.dumps(settings))
"""


@contextmanager
def settings_of_the_engine(vm: Vm, settings: dict[str, Any]) -> Iterator[None]:
    """Other settings for a while, bound over the file of the read-only root."""
    path = f"/run/{new_name('settings')}"
    vm.shell(f"cat >{path} <<'END'\n{json.dumps(settings)}\nEND\nmount --bind {path} /run/cofferdam/policy/engine.json")
    try:
        yield
    finally:
        vm.shell(f"umount /run/cofferdam/policy/engine.json; rm {path}")


def test_exhausted_pool_refuses_and_never_shares(vm: Vm) -> None:
    running = vm.succeed("ps", "--quiet").split()
    if running:
        pytest.skip("other containers hold ranges")
    with settings_of_the_engine(vm, vm.python(ONE_RANGE)):
        with box(vm) as only:
            vm.fail("run", "--rm", vm.image("busybox"), "true", match="no user id range is left for another container")
            joined = vm.run("--network", f"container:{only.name}", command=("cat", "/proc/self/uid_map"))
            assert base_of(joined) == only.base == FIRST
        assert vm.run(command=("cat", "/proc/self/uid_map")) == line(FIRST)


@pytest.mark.slow
def test_ranges_after_dockerd_was_killed(vm: Vm) -> None:
    """No container survives by accident in a range that is given away, and all ranges are free again."""
    before = free(vm, 2)
    one, two = start(vm), start(vm, "--restart", "always")
    try:
        assert [one.base, two.base] == before
        old = vm.shell("pidof dockerd").strip()
        vm.shell(f"kill -KILL {old}")
        wait_until(lambda: vm.shell("pidof dockerd || true").strip() not in ("", old), "systemd starts dockerd again")
        wait_until(lambda: vm.docker("version", check=False).returncode == 0, "dockerd answers", seconds=120, pause=2)
        wait_until(
            lambda: stopped(one) and not stopped(two), "the one stays down, the other is started again", seconds=120, pause=2
        )
        bases = vm.python(IN_USE)
        assert two.base in bases
        assert len(bases) == len(set(bases)) == 1
        with box(vm) as new:
            assert new.base not in bases
            assert {new.base, two.base} <= set(before)
    finally:
        one.remove()
        two.remove()
    assert free(vm, 2) == before
