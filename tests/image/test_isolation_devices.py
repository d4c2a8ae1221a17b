"""Devices: nodes of the VM's hardware are refused by name, fuse and tun can be had, and what every container has is its own."""

from __future__ import annotations

import pytest

from vmtest.flows import Box, box
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

NODES = {
    "console",
    "core",
    "fd",
    "full",
    "mqueue",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "stderr",
    "stdin",
    "stdout",
    "tty",
    "urandom",
    "zero",
}


@pytest.mark.parametrize(
    ("options", "device"),
    [
        pytest.param(("--device", "/dev/vdb"), "/dev/vdb", id="disk"),
        pytest.param(("--device", "/dev/vda:/dev/harmless:r"), "/dev/harmless", id="disk-renamed"),
        pytest.param(("--device", "/dev/kmsg"), "/dev/kmsg", id="log"),
        pytest.param(("--device", "/dev/hwrng"), "/dev/hwrng", id="hwrng"),
        pytest.param(("--device", "/dev/ttyS0"), "/dev/ttyS0", id="console"),
        pytest.param(("--device", "/dev/rtc0"), "/dev/rtc0", id="clock"),
    ],
)
@pytest.mark.isolation(why="plain Docker hands out every device of the VM")
def test_device_of_the_vm_is_refused(vm: Vm, options: tuple[str, ...], device: str) -> None:
    source = options[1].split(":")[0]
    if vm.shell(f"test -e {source} && echo there || true").strip() != "there":
        pytest.skip(f"this VM has no {source}")
    match = f"error in the container spec: device {device} of the VM can't be used in a container; only fuse and tun can"
    vm.fail("run", "--rm", *options, vm.image("busybox"), "true", match=match)


@pytest.mark.isolation(why="with a rule for all devices plain Docker lets a container make and open the disk's node")
def test_device_rules_have_no_effect(vm: Vm) -> None:
    major, minor = vm.shell("cat /sys/class/block/vdb/dev").strip().split(":")
    script = f"mknod /disk b {major} {minor} && dd if=/disk of=/dev/null bs=512 count=1 2>/dev/null && echo read; true"
    assert vm.run("--device-cgroup-rule", "b *:* rwm", "--device-cgroup-rule", "c *:* rwm", command=("sh", "-c", script)) == ""


@pytest.mark.both
def test_fuse_and_tun_can_be_had(vm: Vm) -> None:
    script = "exec 3<>/dev/fuse && echo fuse; exec 4<>/dev/net/tun && echo tun; ip tuntap add mode tun name t0 && ip -o link show t0 | grep -c t0"
    options = ("--device", "/dev/fuse", "--device", "/dev/net/tun", "--cap-add", "NET_ADMIN")
    assert vm.run(*options, image="debian", command=("sh", "-c", script)).split() == ["fuse", "tun", "1"]


def test_node_outside_of_dev_is_refused(vm: Vm) -> None:
    vm.fail(
        "run", "--rm", "--device", "/dev/fuse:/etc/fuse", vm.image("busybox"), "true", match="device nodes can only be below /dev"
    )


@pytest.mark.isolation(why="a privileged container of plain Docker has all nodes of the VM")
def test_dev_holds_the_usual_nodes_alone(vm: Vm) -> None:
    for options in ((), ("--privileged",)):
        found = set(vm.run(*options, command=("ls", "/dev")).split())
        assert found <= NODES | ({"fuse", "net"} if options else set())
        assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "shm"} <= found


@pytest.mark.both
def test_null_device_of_the_vm_stays_the_vms(vm: Vm) -> None:
    """Whatever root does to the nodes that it has as standard streams or in /dev, those of the VM keep owner and mode."""
    listing = "stat -c '%n %a %u %g %t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty"
    before = vm.shell(listing)
    with box(vm, "--privileged") as made:
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            made.sh(f"chown 7:7 /dev/{name}; chmod 600 /dev/{name}")
        made.sh("chmod 600 /proc/1/fd/0; chown 7:7 /proc/1/fd/0; true")
        assert vm.shell(listing) == before
        assert vm.shell(f"stat -L -c %u /proc/{made.pid}/fd/0").strip() == str(made.base + 7)


@pytest.mark.both
def test_nodes_work(vm: Vm) -> None:
    script = """
    head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; head -c 3 /dev/random | wc -c; echo x >/dev/null && wc -c </dev/null
    echo x 2>/dev/null >/dev/full || echo full; echo y >/dev/shm/y && cat /dev/shm/y; ls /dev/fd | head -n 1; test -c /dev/ptmx && echo ptmx
    """
    assert vm.run("--user", "1001", command=("sh", "-c", script)).split() == ["3", "3", "3", "0", "full", "y", "0", "ptmx"]


@pytest.mark.both
def test_terminal_is_a_private_one(vm: Vm) -> None:
    name = vm.name()
    vm.succeed("run", "--detach", "--tty", "--name", name, vm.image("busybox"), "sleep", "1000")
    made = Box(vm, name)
    assert made.exec("tty", options=["--tty"]).strip() == "/dev/pts/1"
    found = set(made.sh("ls /dev/pts; test -c /dev/console && echo console").split())
    assert {"0", "ptmx", "console"} <= found <= {"0", "1", "ptmx", "console"}
