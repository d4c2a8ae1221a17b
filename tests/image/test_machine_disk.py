"""What a running machine takes from the desktop and gives back: its disk grows under it, freed space and memory return."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam.machine.disk import disk_size, used_bytes
from vmtest.flows import box, volume, wait_until
from vmtest.machines import Machines
from vmtest.verbs import done, inv
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

MIB = 2**20
# The file system writes its journal every 5 s and discards after that; the kernel reports free pages after 2 s.
RETURN_SECONDS = 120
WRITER = "n=0; while :; do n=$((n+1)); echo $n | dd conv=fsync >>/data/log 2>/dev/null; done"


def filesystem(vm: Vm) -> int:
    """Bytes of the file system on the data disk, as the VM has them."""
    return int(vm.shell("df -B1 --output=size /var | tail -1"))


def test_the_disk_grows_under_a_container_that_writes(vm: Vm) -> None:
    disk, before = vm.record.data_disk, filesystem(vm)
    wanted = disk_size(disk) + 2048 * MIB
    options = ("resize", "--name", vm.instance, "--disk", f"{wanted // MIB}M")
    with volume(vm) as name, box(vm, "-v", f"{name}:/data", command=("sh", "-c", WRITER)) as writer:
        wait_until(lambda: "5" in writer.sh("cat /data/log").split(), "the container writes")
        said = done(*options)
        assert "the running guest's file system has" in said, said
        assert disk_size(disk) == wanted
        assert filesystem(vm) > before + 1800 * MIB
        written = len(writer.sh("cat /data/log").split())
        wait_until(lambda: len(writer.sh("cat /data/log").split()) > written + 5, "the container still writes")
        numbers = [int(word) for word in writer.sh("cat /data/log").split()]
        assert numbers == list(range(1, len(numbers) + 1))
    assert f"has {wanted // 2**30}" in done(*options), "the same once more changes nothing"
    refused = inv("resize", "--name", vm.instance, "--disk", f"{wanted // MIB - 1024}M")
    assert refused.returncode == 2
    assert "cannot shrink" in refused.stderr


def test_space_of_a_removed_volume_returns_to_the_desktop(vm: Vm) -> None:
    disk, empty = vm.record.data_disk, used_bytes(vm.record.data_disk)
    with volume(vm) as name:
        vm.run("-v", f"{name}:/data", command=["dd", "if=/dev/urandom", "of=/data/file", "bs=1M", "count=300", "conv=fsync"])
        full = used_bytes(disk)
        assert full > empty + 250 * MIB
    wait_until(lambda: used_bytes(disk) < full - 250 * MIB, "the desktop has its space again", seconds=RETURN_SECONDS)


def resident(vm: Vm) -> int:
    """Bytes of memory that QEMU takes on this machine, shared ones among them."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{vm.qemu_pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


@pytest.fixture
def fresh(machines: Machines) -> Iterator[Vm]:
    """A machine that has done nothing yet: the kernel reports free memory in large pieces, which long use breaks up."""
    with machines.extra("memory", "debug", memory="1G") as vm:
        yield vm


def test_memory_of_a_container_that_ended_returns_to_the_desktop(fresh: Vm) -> None:
    vm = fresh
    # dd has read it all and finds nobody to write it to: it holds 400 MiB of anonymous memory until it is ended.
    with box(vm, command=("sh", "-c", "dd if=/dev/zero bs=400M count=1 2>/dev/null | sleep 100000")) as hungry:
        largest = "cat /proc/[0-9]*/status 2>/dev/null | awk '/^VmRSS/ && $2 > most {most = $2} END {print most + 0}'"
        wait_until(lambda: int(hungry.sh(largest)) > 390 * 1024, "the container has its memory", seconds=120)
        full = resident(vm)
        assert full > 400 * MIB
    wait_until(lambda: resident(vm) < full - 250 * MIB, "the desktop has its memory again", seconds=RETURN_SECONDS)
