"""A machine killed without warning: after its next boot volumes and images have their owners, and the desktop its space."""

from __future__ import annotations

import os
import signal

import pytest

from cofferdam.machine.disk import used_bytes
from vmtest.flows import Box, box, shifted_base, wait_until
from vmtest.machines import Machines
from vmtest.vm import Vm

pytestmark = [pytest.mark.vm, pytest.mark.slow]

NAME = "test-killed"
SIZES = {"memory": "1G", "data_disk": "2G"}
WRITE = (
    "echo x >{place}/root; echo x >{place}/user; chown 1000:1001 {place}/user; mkdir {place}/dir; chown 65535:65535 {place}/dir"
)
LIST = "stat -c '%n %u:%g' /data/root /data/user /data/dir /srv/root /srv/user /srv/dir /bin/busybox"
OWNERS = ["root 0:0", "user 1000:1001", "dir 65535:65535"]
WANTED = [*(f"/data/{line}" for line in OWNERS), *(f"/srv/{line}" for line in OWNERS), "/bin/busybox 0:0"]


def free_without_telling(vm: Vm) -> int:
    """Free 300 MiB of the data disk of which the desktop does not hear, as just before a power cut; what the disk takes on it."""
    vm.shell("mount -o remount,nodiscard /var && dd if=/dev/urandom of=/var/freed bs=1M count=300 conv=fsync 2>/dev/null")
    vm.shell("rm /var/freed && sync")
    return used_bytes(vm.record.data_disk)


def kill(vm: Vm) -> None:
    """End the machine as a power cut would."""
    pid = vm.qemu_pid
    vm.close()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not vm.record.alive, "QEMU is gone", seconds=20)


def test_owners_after_the_machine_was_killed(machines: Machines) -> None:
    with machines.extra(NAME, "debug", **SIZES) as vm, box(vm, "--restart", "always", "-v", "kept:/data") as lasting:
        lasting.sh("; ".join(["mkdir /srv", *(WRITE.format(place=place) for place in ("/data", "/srv")), "sync"]))
        shifted_base(lasting.exec("cat", "/proc/self/uid_map"))
        with box(vm, "-v", "kept:/data") as other:
            full = free_without_telling(vm)
            kill(vm)
            again = machines.boot(NAME, "debug", **SIZES)
            try:
                check(Box(again, lasting.name), Box(again, other.name))
                given_back = full - 250 * 2**20
                wait_until(lambda: used_bytes(again.record.data_disk) < given_back, "the desktop has its space", seconds=120)
            finally:
                again.close()


def check(lasting: Box, other: Box) -> None:
    """The container with a restart policy is back by itself, the other one starts, both are shifted and see the owners written before."""
    vm = lasting.vm
    wait_until(lambda: lasting.inspect("{{.State.Running}}") == "true", "the container is started again")
    assert lasting.sh(LIST).split("\n") == WANTED
    assert other.inspect("{{.State.Running}}") == "false"
    vm.succeed("start", other.name)
    assert other.sh("stat -c '%n %u:%g' /data/*").split("\n") == sorted(WANTED[:3])
    bases = {shifted_base(made.exec("cat", "/proc/self/uid_map")) for made in (lasting, other)}
    assert len(bases) == 2
    lasting.sh("echo y >>/data/user; rm -r /data/dir /srv/dir")
    assert other.sh("cat /data/user; ls /data").split("\n") == ["x", "y", "root", "user"]
    assert vm.succeed("run", "--rm", vm.image("busybox"), "stat", "-c", "%u:%g", "/bin/busybox").strip() == "0:0"
