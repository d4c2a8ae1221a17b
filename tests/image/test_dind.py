"""Docker in Docker: a privileged container runs an engine of its own, with inner and inner privileged containers, inside its range."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from vmtest.flows import Box, base_of, box, shifted_base, volume, wait_until
from vmtest.vm import Vm

pytestmark = [pytest.mark.vm, pytest.mark.slow]

# cgroup v2 wants processes in leaves only: what the official docker:dind image does before it starts dockerd.
ENGINE = """
mkdir -p /sys/fs/cgroup/init
for process in $(cat /sys/fs/cgroup/cgroup.procs); do echo "$process" >/sys/fs/cgroup/init/cgroup.procs || :; done
sed -e 's/ / +/g' -e 's/^/+/' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
exec dockerd --host unix:///run/docker.sock >/var/log/dockerd.log 2>&1
"""
LOAD = (
    "mkdir -p /tmp/tree/bin && cp /bin/busybox /tmp/tree/bin/ && for name in sh cat mount mkdir dd mknod ip wget httpd ls sleep stat id touch; do \
ln -sf busybox /tmp/tree/bin/$name; done && tar -C /tmp/tree -c . | docker import - inner/busybox"
)
KINDS = ("volume", "automatic")


@dataclass(frozen=True)
class Engines:
    """A running inner engine for each way to have /var/lib/docker."""

    boxes: dict[str, Box]

    def __getitem__(self, kind: str) -> Box:
        return self.boxes[kind]


def ready(engine: Box) -> bool:
    assert engine.inspect("{{.State.Running}}") == "true", (
        f"the inner engine ended: {engine.vm.docker('logs', engine.name, check=False)}"
    )
    return engine.vm.docker("exec", engine.name, "docker", "version", check=False).returncode == 0


@pytest.fixture(scope="module")
def engines(vm: Vm) -> Iterator[Engines]:
    """The inner engines, started at the same time; the baseline has the one with a volume only."""
    with ExitStack() as stack:
        store = stack.enter_context(volume(vm))
        kinds = {"volume": ["-v", f"{store}:/var/lib/docker"], "automatic": []}
        wanted = KINDS if vm.profile == "debug" else KINDS[:1]
        boxes = {
            kind: stack.enter_context(box(vm, "--privileged", *kinds[kind], image="dind", command=("sh", "-ec", ENGINE)))
            for kind in wanted
        }
        for engine in boxes.values():
            wait_until(lambda engine=engine: ready(engine), "inner dockerd", seconds=180, pause=2)
            engine.sh(LOAD)
        yield Engines(boxes)


@pytest.mark.parametrize("kind", KINDS)
def test_inner_engine_has_a_native_storage_driver(engines: Engines, kind: str) -> None:
    engine = engines[kind]
    assert engine.sh("docker info --format '{{.Driver}}'") == "overlay2"
    mount = engine.sh("awk '$2 == \"/var/lib/docker\" {print $3}' /proc/mounts")
    assert mount == "ext4"


@pytest.mark.parametrize("kind", KINDS)
def test_inner_container(engines: Engines, kind: str) -> None:
    """It runs, shares the outer range, reaches the inner bridge, and its writes are kept by the inner engine."""
    engine = engines[kind]
    outer = shifted_base(engine.exec("cat", "/proc/self/uid_map"))
    script = "cat /proc/self/uid_map; stat -c %u:%g /bin/sh; ip -o -4 addr show eth0; echo kept >/kept"
    output = engine.sh(f"docker run --name one inner/busybox sh -ec '{script}'")
    assert base_of(output) == outer
    assert "0:0" in output.split("\n")
    assert "172." in output
    assert engine.sh("docker start one >/dev/null; docker cp one:/kept - | tar -tv --numeric-owner; docker rm -f one").startswith(
        "-rw-r--r-- 0/0"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_inner_privileged_container(engines: Engines, kind: str) -> None:
    engine = engines[kind]
    script = "cat /proc/self/uid_map; mkdir /t; mount -t tmpfs tmpfs /t; echo x >/t/x; cat /t/x; ls /dev | grep -c -E ^vd || :"
    output = engine.sh(f"docker run --rm --privileged inner/busybox sh -ec '{script}'")
    assert base_of(output) == engine.base > 0
    assert output.strip().split("\n")[-2:] == ["x", "0"]


@pytest.mark.isolation(why="an inner privileged container is held by the outer one's range: no disk of the VM, no global sysctl")
def test_inner_privileged_container_cannot_reach_the_vm(engines: Engines, vm: Vm) -> None:
    engine = engines["volume"]
    before = vm.shell("cat /proc/sys/kernel/core_pattern")
    numbers = vm.shell("cat /sys/class/block/vdb/dev").strip().replace(":", " ")
    attempts = {
        "disk": f"mknod /disk b {numbers} && dd if=/disk of=/dev/null bs=512 count=1",
        "core_pattern": "mkdir /p && mount -t proc proc /p && cat /p/sys/kernel/core_pattern >/p/sys/kernel/core_pattern",
        "vm_sysctl": "cat /proc/sys/vm/overcommit_memory >/proc/sys/vm/overcommit_memory",
    }
    script = "; ".join(f"if ({command}) 2>/dev/null; then echo {name}; fi" for name, command in attempts.items())
    reached = engine.sh(f"docker run --rm --privileged inner/busybox sh -c '{script}; true'").split()
    assert vm.shell("cat /proc/sys/kernel/core_pattern") == before
    assert reached == []


def test_inner_volume_and_build(engines: Engines) -> None:
    engine = engines["volume"]
    engine.sh("docker run --rm -v data:/data inner/busybox sh -c 'echo x >/data/file'")
    assert engine.sh(
        "docker run --rm -v data:/data:ro inner/busybox sh -c 'cat /data/file; stat -c %u:%g /data/file'"
    ).split() == ["x", "0:0"]
    dockerfile = "FROM inner/busybox\\nRUN echo built >/built\\n"
    output = engine.sh(
        f"printf '{dockerfile}' | DOCKER_BUILDKIT=0 docker build -q -t inner/built - && docker run --rm inner/built cat /built"
    )
    assert output.endswith("built")


def test_inner_engine_survives_a_restart_of_its_container(engines: Engines, vm: Vm) -> None:
    """The automatic volume keeps the inner images over stop and start, although the id range may change."""
    engine = engines["automatic"]
    vm.succeed("restart", "--time", "20", engine.name)
    wait_until(lambda: ready(engine), "inner dockerd after a restart", seconds=180, pause=2)
    assert "inner/busybox" in engine.sh("docker images --format '{{.Repository}}'").split("\n")
    assert base_of(engine.sh("docker run --rm inner/busybox cat /proc/self/uid_map")) == engine.base > 0
