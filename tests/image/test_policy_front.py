"""What the API proxy refuses at the door, whatever the wrapper would say later; and what it ignores without a word."""

from __future__ import annotations

import json
import re

import pytest

from cofferdam.machine import api
from vmtest.flows import box, new_name, shifted_base
from vmtest.vm import ENGINE, Vm

pytestmark = pytest.mark.vm

RESTRICTED = "because it's configured as a restricted host mount"
SOCKET = (
    r'docker socket mount denied for container with image "docker.io/cofferdam-test/busybox"; image is not in the allowed list'
)
OPTION = "volume-opt={}"
TARGET = "dst=/mnt"


def inline(*options: str) -> tuple[str, str]:
    return "--mount", ",".join(["type=volume", TARGET, *(OPTION.format(each) for each in options)])


RUN = {
    "E70-bind": (("-v", "/var/run/docker.sock:/var/run/docker.sock"), SOCKET),
    "E70-mount": (("--mount", "type=bind,src=/run/docker.sock,dst=/s"), SOCKET),
    "E70-dots": (("-v", "/var/run/../run/./docker.sock:/s"), SOCKET),
    "E70-engine": (("-v", f"{ENGINE}:/s"), RESTRICTED),
    "E71-run": (("-v", "/run:/x"), RESTRICTED),
    "E71-var-run": (("-v", "/var/run:/x"), RESTRICTED),
    "E71-root": (("-v", "/:/x"), RESTRICTED),
    "E71-init": (("-v", "/proc/1/root:/x"), RESTRICTED),
    "E71-docker": (("-v", "/var/lib/docker:/x"), RESTRICTED),
    "E71-slashes": (("-v", "//run:/x"), RESTRICTED),
    "E74-file": (("-v", "/etc/docker/daemon.json:/x"), RESTRICTED),
    "E75-bind": (inline("type=none", "o=bind", "device=/etc/docker"), "option"),
    "E75-rbind": (inline("type=none", "o=rbind", "device=/etc"), "option"),
    "E76-ext4": (inline("type=ext4", "device=/dev/vdb"), "option"),
    "E76-overlay": (inline("type=overlay", "device=overlay", "o=lowerdir=/etc"), "option"),
    "E76-proc": (inline("type=proc", "device=none"), "option"),
    "E76-virtiofs": (inline("type=virtiofs", "device=share"), "option"),
    "E79-shared": (("-v", "/run:/x:rshared"), RESTRICTED),
    "E7B-root": (("--cgroup-parent=/",), "can't be chosen"),
    "E7B-slice": (("--cgroup-parent=system.slice",), "can't be chosen"),
    "E7D-value": (("--sysctl", "kernel.shm_rmid_forced=1+kernel.core_pattern=|/x"), "is no value of a parameter"),
    "E7F-syslog": (("--log-driver=syslog", "--log-opt=syslog-address=unix:///run/docker.sock"), "log"),
    "E7F-fluentd": (("--log-driver=fluentd",), "log"),
    "E7F-journald": (("--log-driver=journald",), "log"),
    "E82-2376": (("-p", "2376:80"), "port"),
    "E3E-disk": (("--device=/dev/vdb",), "can't be used in a container"),
    "E3F-gpus": (("--gpus=all",), "device request"),
    "host-pid": (("--pid=host",), r"can't share namespaces \[pid\] with the host"),
    "host-network": (("--network=host",), "can't share a network namespace with the host"),
    "host-ipc": (("--ipc=host",), r"can't share namespaces \[ipc\] with the host"),
    "host-uts": (("--uts=host",), r"can't share namespaces \[uts\] with the host"),
}


@pytest.mark.isolation(why="nothing stands between a client of plain Docker and its engine")
@pytest.mark.parametrize("row", RUN)
def test_container_is_refused_at_create(vm: Vm, row: str) -> None:
    """Nothing is left of it: dockerd has not even made the container."""
    options, match = RUN[row]
    name = vm.name()
    message = vm.fail("create", "--name", name, *options, vm.image("busybox"), "true", match=match)
    assert "Error response from daemon" in message
    assert name not in vm.succeed("ps", "--all", "--format", "{{.Names}}").split()


COMMANDS = {
    "E75-volume": (("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/etc/docker", "@NAME@"), "option"),
    "E76-volume": (("volume", "create", "-o", "type=debugfs", "-o", "device=none", "@NAME@"), "option"),
    "volume-driver": (("volume", "create", "--driver=other", "@NAME@"), "driver"),
    "E80-install": (("plugin", "install", "--grant-all-permissions", "x/y"), "plugins run as root of the VM"),
    "E81-bridge": (
        ("network", "create", "-o", "com.docker.network.bridge.name=docker0", "@NAME@"),
        "the interface is the VM's own",
    ),
    "E81-macvlan": (("network", "create", "-d", "macvlan", "-o", "parent=eth0", "@NAME@"), "parent"),
    "E81-subnet": (("network", "create", "--subnet=10.0.2.0/24", "@NAME@"), "10.0.2"),
    "E87-import": (("import", "http://169.254.169.254/x"), "can't be fetched from"),
    "E88-swarm": (("swarm", "init"), "swarm"),
}


@pytest.mark.isolation(why="plain Docker does all of this as root of the VM, or fails in its own words")
@pytest.mark.parametrize("row", COMMANDS)
def test_command_is_refused(vm: Vm, row: str) -> None:
    words, match = COMMANDS[row]
    name = new_name("refused")
    try:
        message = vm.fail(*(name if word == "@NAME@" else word for word in words), match=f"(?i){match}")
        assert "Error response from daemon" in message
    finally:
        # what baseline has made
        for kind in ("volume", "network"):
            vm.docker(kind, "rm", name, check=False)
        vm.docker("swarm", "leave", "--force", check=False)


@pytest.mark.isolation(why="plain Docker looks for a runtime of that name")
@pytest.mark.parametrize("runtime", ["runc", "io.containerd.runc.v2", "io.containerd.runsc.v1", "/x/y"])
def test_choice_of_a_runtime_is_ignored(vm: Vm, runtime: str) -> None:
    name = vm.name()
    image = vm.image("busybox")
    text = vm.succeed("run", "--name", name, f"--runtime={runtime}", "--userns=host", image, "cat", "/proc/self/uid_map")
    shifted_base(text)
    assert vm.succeed("inspect", "--format", "{{.HostConfig.Runtime}}", name).strip() == "sysbox-runc"


@pytest.mark.isolation(why="annotations of plain Docker steer the runtime")
def test_annotations_that_steer_a_runtime_are_dropped(vm: Vm) -> None:
    name = vm.name()
    options = ("--annotation", "run.oci.handler=wasm", "--annotation", "note=kept")
    vm.succeed("create", "--name", name, *options, vm.image("busybox"), "true")
    assert json.loads(vm.succeed("inspect", "--format", "{{json .HostConfig.Annotations}}", name)) == {"note": "kept"}


@pytest.mark.isolation(why="dockerd itself makes a missing source, as root of the VM")
def test_missing_source_is_not_made_in_the_vm(vm: Vm) -> None:
    path = f"/run/{new_name('made')}"
    vm.docker("run", "--rm", "-v", f"{path}:/x", vm.image("busybox"), "true", check=False)
    assert vm.shell(f"test -e {path} && rmdir {path} && echo made || echo none").strip() == "none"


@pytest.mark.isolation(why="dockerd itself opens the source when files are copied, without any runtime")
def test_copy_from_a_container_that_never_ran(vm: Vm) -> None:
    name = vm.name()
    vm.docker("create", "--name", name, "-v", "/etc/docker:/x", vm.image("busybox"), "true", check=False)
    found = vm.docker("cp", f"{name}:/x/daemon.json", "-", check=False)
    assert found.returncode != 0 and "storage-driver" not in found.stdout


@pytest.mark.isolation(why="a container made past the proxy is plain Docker's own")
def test_container_from_before_the_policy_is_judged_at_start(vm: Vm) -> None:
    """Rows P31, E78 and E89: it was made where no proxy saw it."""
    name = vm.name()
    vm.boundary.succeed("create", "--name", name, "-v", "/etc/docker:/x", vm.image("busybox"), "true")
    vm.fail("start", name, match=RESTRICTED)
    vm.fail("cp", f"{name}:/x/daemon.json", "-", match=RESTRICTED)
    vm.fail("run", "--rm", "--volumes-from", name, vm.image("busybox"), "true", match=RESTRICTED)


@pytest.mark.isolation(why="plain Docker says nothing about isolation")
def test_policy_is_visible(vm: Vm) -> None:
    info = json.loads(vm.succeed("info", "--format", "{{json .}}"))
    match = re.search(r"name=cofferdam,isolation=kernel,policy=sha256:([0-9a-f]{64})", " ".join(info["SecurityOptions"]))
    assert match
    assert f"cofferdam.policy={match[1][:12]}" in info["Labels"]
    assert api.status(vm.instance)[0]["policy"]["sha256"] == match[1]
    assert match[1] in vm.shell("journalctl --identifier=cofferdam --output=cat")


def test_one_event_for_a_refusal(vm: Vm) -> None:
    source = f"/etc/{new_name('event')}"
    vm.fail("create", "-v", f"{source}:/x", vm.image("busybox"), match=RESTRICTED)
    text = vm.shell(f"journalctl --identifier=cofferdam --output=json | grep -F '{source}'")
    (event,) = [json.loads(line) for line in text.splitlines()]
    assert (event["COFFERDAM_RULE"], event["COFFERDAM_DOOR"], event["COFFERDAM_PEER"]) == ("restricted-mount", "host", "host")


def test_engines_own_socket_is_out_of_reach(vm: Vm) -> None:
    """Row E8A: two doors, both the proxy's; dockerd's socket is in a directory of root's alone."""
    assert vm.shell(f"stat --format '%a %U' {ENGINE.rpartition('/')[0]}").strip() == "700 root"
    assert "dockerd" in vm.shell("ss --processes --listening --unix --no-header")
    assert "dockerd" not in vm.shell("ss --processes --listening --tcp --udp --no-header")


def test_old_sockets_survive_a_new_proxy(vm: Vm) -> None:
    before = vm.shell("stat --format %i /run/docker.sock")
    vm.shell("systemctl restart cofferdam-apiproxy.service")
    assert vm.shell("stat --format %i /run/docker.sock") == before
    vm.succeed("version")


def test_proxy_comes_back_after_kill(vm: Vm) -> None:
    """Row P40: a clean error or an answer, never a way around it."""
    with box(vm) as made:
        vm.shell("systemctl kill --signal=KILL cofferdam-apiproxy.service")
        vm.succeed("version")
        assert made.sh("echo on") == "on"
