"""Namespaces: the VM's own are refused with the documented words, all of a container's are its own, those of other containers can be shared."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from vmtest.flows import FIRST, Box, base_of, box
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

KINDS = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time")
LINKS = f"for n in {' '.join(KINDS)}; do echo $n $(readlink /proc/self/ns/$n); done"
# the published text; dockerd puts words of its own in the middle since version 25
FAILED = r"^docker: Error response from daemon: (failed to create task for container: )?failed to create shim task: OCI runtime create failed: "
REFUSED = FAILED + "error in the container spec: invalid or unsupported container spec: cofferdam containers can't share "
BECAUSE = " with the host (because they use the linux user-namespace for isolation): unknown"


@pytest.fixture(scope="module")
def idle(vm: Vm) -> Iterator[Box]:
    """A container whose namespaces others may join."""
    with box(vm, "--ipc", "shareable") as made:
        yield made


@pytest.fixture(scope="module")
def privileged(vm: Vm) -> Iterator[Box]:
    """A container with every privilege and every namespace option that is not refused."""
    with box(vm, "--privileged", "--userns=host", "--cgroupns=host", image="debian") as made:
        yield made


def links(text: str) -> dict[str, str]:
    found = dict(line.split(" ", 1) for line in text.strip().split("\n"))
    assert len(found) == len(KINDS), text
    return found


@pytest.mark.parametrize(
    ("options", "what"),
    [
        pytest.param(("--pid=host",), "namespaces [pid]", id="pid"),
        pytest.param(("--ipc=host",), "namespaces [ipc]", id="ipc"),
        pytest.param(("--uts=host",), "namespaces [uts]", id="uts"),
        pytest.param(("--network=host",), "a network namespace", id="network"),
        pytest.param(("--pid=host", "--ipc=host"), "namespaces [pid ipc]", id="pid-ipc"),
        pytest.param(("--pid=host", "--ipc=host", "--uts=host", "--network=host"), "namespaces [pid ipc uts]", id="all"),
        pytest.param(("--privileged", "--pid=host"), "namespaces [pid]", id="privileged"),
        pytest.param(("--userns=host", "--network=host"), "a network namespace", id="userns-host"),
        pytest.param(("--runtime=runc", "--pid=host"), "namespaces [pid]", id="runtime-runc"),
    ],
)
@pytest.mark.isolation(why="plain Docker shares the VM's namespaces on request")
def test_namespace_of_the_vm_is_refused(vm: Vm, options: tuple[str, ...], what: str) -> None:
    vm.fail("run", "--rm", *options, vm.image("busybox"), "true", match=REFUSED + re.escape(what + BECAUSE))


@pytest.mark.isolation(why="--cgroupns=host is not refused but has no effect")
def test_control_group_namespace_of_the_vm_is_not_given(vm: Vm) -> None:
    script = "readlink /proc/self/ns/cgroup; cat /proc/self/cgroup; ls /sys/fs/cgroup"
    output = vm.run("--cgroupns=host", command=("sh", "-c", script)).split()
    assert output[0] != vm.shell("readlink /proc/1/ns/cgroup").strip()
    assert output[1] == "0::/"
    assert "system.slice" not in output[2:]


@pytest.mark.isolation(why="user and time namespaces are added, and a privileged container or exec gets no less")
def test_privileged_container_has_all_namespaces_of_its_own(vm: Vm, privileged: Box, idle: Box) -> None:
    machine = links(vm.shell(LINKS))
    own = links(privileged.sh(LINKS))
    assert links(privileged.sh(LINKS, "--privileged")) == own
    other = links(idle.sh(LINKS))
    for kind in KINDS:
        assert len({machine[kind], own[kind], other[kind]}) == 3, kind


# --- /proc/uptime


def uptime(vm: Vm) -> float:
    return float(vm.shell("cat /proc/uptime").split()[0])


@pytest.mark.isolation(why="plain Docker shows the VM's uptime")
def test_uptime_begins_with_the_container(vm: Vm) -> None:
    before = uptime(vm)
    assert before > 5
    first = float(vm.run(command=("cat", "/proc/uptime")).split()[0])
    assert first <= uptime(vm) - before + 1


@pytest.mark.isolation(why="a process that joins the container is in its time namespace")
def test_uptime_of_an_exec(vm: Vm) -> None:
    before = uptime(vm)
    with box(vm) as made:
        first = float(made.exec("cat", "/proc/uptime").split()[0])
        second = float(made.exec("cat", "/proc/uptime", options=["--privileged"]).split()[0])
        assert first <= second <= uptime(vm) - before + 1
        with_busybox = made.sh("uptime")
        assert re.search(r"up 0 ?min", with_busybox), with_busybox


@pytest.mark.isolation(why="the idle time of the VM's processors tells how long it runs")
def test_uptime_shows_no_idle_time_of_the_vm(vm: Vm) -> None:
    """Both fields are the container's age, as `5.86 5.86`."""
    first, second = map(float, vm.run(command=("cat", "/proc/uptime")).split())
    assert second == pytest.approx(first, abs=1)


@pytest.mark.isolation(why="clocks that count from the VM's boot are the container's own")
def test_boot_clock_begins_with_the_container(vm: Vm) -> None:
    before = uptime(vm)
    script = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME))"
    assert float(vm.run(image="debian", command=("python3", "-c", script))) <= uptime(vm) - before + 1


# --- ways out


@pytest.mark.both
def test_only_own_processes_can_be_joined(vm: Vm, privileged: Box) -> None:
    """Also by a fresh proc: pid 1 is the container's own, and no other process can be named."""
    fresh = "mkdir -p /p; mount -t proc proc /p; for d in /p/[0-9]*; do readlink $d/ns/mnt; done | sort -u; umount /p"
    assert privileged.sh(fresh).split() == [privileged.sh("readlink /proc/1/ns/mnt")]
    joined = privileged.sh("nsenter --target 1 --mount --pid --net --ipc --uts readlink /proc/1/ns/mnt")
    assert joined == privileged.sh("readlink /proc/self/ns/mnt")


SEND = """
import array, os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
fds = [os.open("/proc/1/ns/" + kind, os.O_RDONLY) for kind in sys.argv[2].split(",")]
sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
print("null")
"""
RECEIVE = """
import array, errno, os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("/data/door")
os.chmod("/data/door", 0o777)
listener.listen()
kinds = sys.argv[1].split(",")
sock = listener.accept()[0]
data = sock.recvmsg(1, socket.CMSG_SPACE(4 * len(kinds)))[1][0][2]
for kind, fd in zip(kinds, array.array("i", data)):
    try:
        os.setns(fd, 0)
        print(kind, "joined")
    except OSError as error:
        print(kind, errno.errorcode[error.errno])
"""


@pytest.mark.isolation(why="root of plain Docker's privileged container may enter any namespace it gets hold of")
def test_namespaces_of_the_vm_cannot_be_entered(vm: Vm) -> None:
    """Not even with descriptors that the VM's root itself hands over: the container's root has no rights over them."""
    kinds = ["uts", "ipc", "net", "cgroup", "time", "mnt"]
    with box(vm, "--privileged", "-v", "/data", image="debian", command=("python3", "-c", RECEIVE, ",".join(kinds))) as made:
        door = vm.succeed("inspect", "--format", "{{range .Mounts}}{{.Source}}{{end}}", made.name).strip() + "/door"
        vm.shell(f"for n in $(seq 100); do test -S {door} && break; sleep 0.2; done")
        vm.python(SEND, door, ",".join(kinds))
        vm.succeed("wait", made.name)
        answers = dict(line.split() for line in vm.succeed("logs", made.name).strip().split("\n"))
    assert answers == dict.fromkeys(kinds, "EPERM")


@pytest.mark.isolation(why="plain Docker's container is in the VM's user namespace, whose rights are the machine's")
def test_nested_user_namespace_gains_nothing(vm: Vm, privileged: Box) -> None:
    nested = privileged.sh("unshare --user --map-root-user cat /proc/self/uid_map")
    assert nested.split() == ["0", "0", "1"]
    owner = int(vm.shell(f"stat -c %u /proc/{privileged.pid}"))
    assert owner == privileged.base >= FIRST
    script = "cat /proc/sys/kernel/core_pattern >/proc/sys/kernel/core_pattern"
    privileged.refuses(f"unshare --user --map-root-user --mount sh -c '{script}'", match="[Pp]ermission denied")


@pytest.mark.both
def test_no_descriptor_of_the_engine_is_left_open(vm: Vm, privileged: Box) -> None:
    """In the first process, and in one that joins: standard streams alone, none of them leads outside."""
    assert privileged.sh("ls /proc/1/fd").split() == ["0", "1", "2"]
    listing = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')))"
    assert privileged.exec("python3", "-c", listing).strip() == "[0, 1, 2]"
    assert vm.run(image="debian", command=("python3", "-c", listing)).strip() == "[0, 1, 2]"


# --- namespaces of other containers


def test_all_namespaces_of_one_other_container(vm: Vm, idle: Box) -> None:
    with box(vm, *(f"--{kind}=container:{idle.name}" for kind in ("pid", "ipc", "network"))) as made:
        own, other = links(made.sh(LINKS)), links(idle.sh(LINKS))
        assert {kind for kind in KINDS if own[kind] == other[kind]} == {"pid", "ipc", "net", "user"}
        assert made.base == idle.base > 0
        made.sh('kill -0 1; test -n "$(ls /proc/1/root/)"')
    assert idle.inspect("{{.State.Running}}") == "true"


@pytest.mark.isolation(why="a process has one user namespace, and ranges are never mixed")
def test_namespaces_of_two_other_containers_are_refused(vm: Vm, idle: Box) -> None:
    with box(vm) as second:
        options = (f"--pid=container:{idle.name}", f"--network=container:{second.name}")
        message = vm.fail("run", "--rm", *options, vm.image("busybox"), "true", match="of several containers")
    assert "cofferdam containers can't join namespaces [" in message


@pytest.mark.isolation(why="a container that shares one namespace is refused the VM's others all the same")
def test_joined_and_host_namespace_together(vm: Vm, idle: Box) -> None:
    vm.fail(
        "run",
        "--rm",
        f"--network=container:{idle.name}",
        "--pid=host",
        vm.image("busybox"),
        "true",
        match=re.escape("namespaces [pid] with the host"),
    )


@pytest.mark.isolation(why="a container that joins a privileged one has no more rights over the VM than that")
def test_joining_a_privileged_container(vm: Vm, privileged: Box) -> None:
    options = (f"--pid=container:{privileged.name}", "--privileged")
    output = vm.run(
        *options,
        command=(
            "sh",
            "-c",
            "cat /proc/self/uid_map; cat /proc/sys/kernel/core_pattern >/proc/sys/kernel/core_pattern || echo kept",
        ),
    )
    assert base_of(output) == privileged.base > 0
    assert output.split()[-1] == "kept"
