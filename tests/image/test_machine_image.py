"""The booted machine is what the image promises: read-only, small, hardened, with one door."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import re
import ssl
import time
from typing import Any

import pytest

from cofferdam.paths import ROOT
from vmtest.machines import Machines
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

SYSCTLS = ROOT / "vm/rootfs/overlay/base/usr/lib/sysctl.d/50-cofferdam.conf"


@pytest.fixture(scope="module")
def manifest(machines: Machines) -> Any:
    return json.loads(machines.image("debug").manifest.read_text())


@pytest.mark.both
def test_root_is_erofs_and_nothing_on_it_can_be_written(vm: Vm) -> None:
    mount = vm.host.mount_point("/")
    assert mount.filesystem == "erofs"
    for path in ("/canary", "/etc/canary", "/usr/canary", "/etc/docker/canary"):
        assert "Read-only file system" in vm.shell(f"touch {path} 2>&1 || true")
    vm.shell("mount -o remount,rw / 2>/dev/null || true")
    assert "Read-only file system" in vm.shell("touch /canary 2>&1 || true")
    assert vm.host.file("/").mode == 0o755


@pytest.mark.both
def test_root_is_verified_by_the_hash_of_the_manifest(vm: Vm, machines: Machines) -> None:
    verity = machines.image(vm.profile).verity
    assert verity is not None and verity.root_hash in vm.shell("cat /proc/cmdline")
    assert vm.shell("cat /sys/block/dm-0/dm/name; ls /sys/block/dm-0/slaves; cat /sys/block/dm-0/ro").split() == [
        "root",
        "vda",
        "vdc",
        "1",
    ]


@pytest.mark.both
def test_only_the_data_disk_and_memory_can_be_written(vm: Vm) -> None:
    script = "awk '$4 ~ /^rw/ && $3 !~ /^(proc|sysfs|cgroup2|devpts|mqueue|securityfs|bpf|fusectl|fuse.lxcfs|overlay|nsfs)$/ {print $2, $3}' /proc/mounts"
    writable = {tuple(line.split()) for line in vm.shell(script).strip().split("\n")}
    disks = {(point, kind) for point, kind in writable if kind not in ("tmpfs", "devtmpfs", "ramfs")}
    shared = {(str(vm.share), "virtiofs")}
    assert {kind for _, kind in disks - shared} == {"ext4"}
    assert ("/var", "ext4") in disks
    options = vm.host.mount_point("/var").options
    assert {"nodev", "nosuid", "discard"} <= set(options)


@pytest.mark.both
def test_no_file_raises_privileges(vm: Vm) -> None:
    assert vm.shell("find / -xdev -perm /6000 -type f").strip() == ""


def test_kernel_is_the_one_of_the_manifest(vm: Vm, manifest: Any) -> None:
    assert vm.shell("uname -r").strip() == manifest["kernel"]["version"] == vm.report.kernel
    config = gzip.decompress(bytes.fromhex(vm.shell("od -An -v -tx1 /proc/config.gz").replace("\n", "")))
    assert hashlib.sha256(config).hexdigest() == manifest["kernel"]["config_sha256"]
    assert "CONFIG_HYPERV_STORAGE=y" in config.decode()


@pytest.mark.both
def test_kernel_takes_no_modules_and_is_locked_down(vm: Vm) -> None:
    assert vm.shell("test -e /proc/modules && echo there || echo absent").strip() == "absent"
    vm.shell("mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security")
    assert "[integrity]" in vm.shell("cat /sys/kernel/security/lockdown")
    assert vm.shell("ls /dev/mem /dev/kmem /dev/port /proc/kcore 2>/dev/null || true").strip() == ""


def wanted_sysctls() -> list[tuple[str, str, bool]]:
    lines = [line.strip() for line in SYSCTLS.read_text().splitlines()]
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return [(key.strip().lstrip("-"), value.strip(), key.startswith("-")) for key, value in pairs]


@pytest.mark.both
def test_every_sysctl_is_in_force(vm: Vm) -> None:
    """One that the kernel does not have may be absent when its line says so; any other must have the value."""
    wanted = wanted_sysctls()
    script = "; ".join(f"cat /proc/sys/{key.replace('.', '/')} 2>/dev/null || echo absent" for key, _, _ in wanted)
    found = vm.shell(script).strip().split("\n")
    wrong = [
        f"{key} is {value}, not {want}"
        for (key, want, optional), value in zip(wanted, found, strict=True)
        if value != want and not (value == "absent" and (optional or key == "kernel.sysrq"))
    ]
    assert wrong == []


@pytest.mark.both
def test_no_unit_has_failed(vm: Vm) -> None:
    assert vm.shell("systemctl list-units --failed --plain --no-legend").strip() == ""
    for unit in ("docker.service", "containerd.service", "cofferdam-firewall.service", "cofferdam-view.service"):
        assert vm.host.service(unit).is_running, unit


@pytest.mark.both
def test_nothing_listens_but_the_docker_api_and_ssh(vm: Vm) -> None:
    """Docker answers on the machine's own address only; ssh is there because these images are the debug ones."""
    sockets = set(vm.host.socket.get_listening_sockets())
    tcp = {re.sub(r"^tcp://", "", name) for name in sockets if name.startswith("tcp")}
    assert {name.rpartition(":")[2] for name in tcp} == {"22", "2376"}
    assert "10.0.2.15:2376" in tcp
    assert not [name for name in sockets if name.startswith("udp")]


@pytest.mark.both
def test_credentials_come_from_a_disk_on_hyper_v_alone(vm: Vm) -> None:
    assert vm.shell("systemctl show --value --property=LoadState,ConditionResult cofferdam-handover").split() == ["loaded", "no"]


@pytest.mark.both
def test_docker_socket_is_for_root_alone(vm: Vm) -> None:
    for path in ("/run/docker.sock", "/run/containerd/containerd.sock"):
        socket = vm.host.file(path)
        assert (socket.user, socket.group, socket.mode & 0o007) == ("root", "root", 0), path


@pytest.mark.both
def test_docker_api_wants_the_clients_certificate(vm: Vm) -> None:
    port = vm.report.docker_host.rpartition(":")[2]
    context = ssl.create_default_context(cafile=str(vm.report.cert_path / "ca.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", int(port), context=context, timeout=30)
    with pytest.raises((ssl.SSLError, http.client.HTTPException, ConnectionError)):
        connection.request("GET", "/_ping")
        connection.getresponse()
    connection.close()
    plain = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    plain.request("GET", "/_ping")
    assert plain.getresponse().status == 400
    plain.close()


def test_documentation_and_package_tools_are_not_there(vm: Vm) -> None:
    for path in (
        "/usr/share/doc",
        "/usr/share/man",
        "/usr/bin/dpkg",
        "/usr/bin/apt",
        "/usr/bin/perl",
        "/usr/bin/docker",
        "/usr/sbin/runc.stock",
    ):
        assert vm.shell(f"test -e {path} && echo {path} || true").strip() == ""


@pytest.mark.isolation(why="there the runtime is the stock one")
def test_runc_is_the_wrapper_wherever_it_is_looked_for(vm: Vm) -> None:
    for path in ("/usr/bin/runc", "/usr/sbin/runc"):
        assert int(vm.shell(f"grep -c cofferdam_guest {path} 2>/dev/null || true") or 0) > 0, path
    pyc = vm.shell("find /usr/lib/python3/dist-packages/cofferdam_guest/runtime -name '*.pyc' | wc -l")
    assert int(pyc) > 10


def test_guest_clock_is_the_hosts(vm: Vm) -> None:
    before = time.time()
    guest = float(vm.shell("date +%s.%N"))
    assert before - 3 < guest < time.time() + 3
