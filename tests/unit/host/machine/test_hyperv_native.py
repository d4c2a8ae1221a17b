"""Machines of Hyper-V from boot to stop; PowerShell, which only Windows has, is one that writes down what it was given."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cofferdam.errors import BootError, HostError, InstanceError, UsageError
from cofferdam.machine import api
from cofferdam.machine.hyperv import native
from cofferdam.machine.hyperv.facts import FEATURE, JOIN, read_facts, require
from cofferdam.machine.hyperv.handoverdisk import LIMIT, content, fixed_vhd
from cofferdam.machine.hyperv.image import find_vhdx
from cofferdam.machine.hyperv.native import Tools
from cofferdam.machine.hyperv.shell import powershell, write_script
from cofferdam.machine.instance import Instance
from cofferdam.machine.settings import BootSettings, boot_settings
from cofferdam.machine.stored import has_data, latest
from cofferdam.progress import Progress
from cofferdam_guest.agent import configdisk

QEMU = shutil.which("qemu-system-x86_64")
FACTS = {
    "module": True,
    "service": True,
    "allowed": True,
    "switch": True,
    "address": True,
    "nat": True,
    "resolvers": ["192.0.2.53"],
}


class Host:
    """A Windows host: PowerShell, the state of the one machine, and Docker in it."""

    def __init__(self) -> None:
        self.facts: dict[str, object] = dict(FACTS)
        self.ran: list[str] = []
        self.state = ""
        self.answers = True
        self.broken = ""
        self.disk = b""

    def shell(self, path: Path, script: str) -> str:
        self.ran.append(path.name)
        if self.broken == path.name:
            raise BootError(f"{path.name} failed", hint="by hand")
        if path.name == "boot.ps1":
            self.disk = (path.parent / "handover.vhd").read_bytes()
            (path.parent / "data.vhdx").touch()
            self.state = "Running"
        if path.name == "stop.ps1":
            self.state = ""
        return {"probe.ps1": json.dumps(self.facts), "state.ps1": f"{self.state}\r\n"}.get(path.name, "")

    def ping(self, port: int, certificates: Path, timeout: float, host: str) -> str:
        assert (port, host) == (2376, "10.0.2.15")
        assert (certificates / "key.pem").exists()
        if not self.answers:
            raise BootError("Docker is ready in the guest, but its API does not answer", hint="")
        return "1.47"

    @property
    def tools(self) -> Tools:
        return Tools(self.shell, self.ping)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def vhdx(tmp_path: Path) -> Path:
    path = tmp_path / "cofferdam-0.1.0-default.vhdx"
    path.write_bytes(b"vhdxfile" + bytes(100))
    return path


def settings(vhdx: Path, **more: object) -> BootSettings:
    return boot_settings(hyperv=True, native=True, image=vhdx, **more)


def boot(host: Host, vhdx: Path, **more: object) -> object:
    return native.boot(settings(vhdx, **more), Progress(quiet=True), host.tools)


def test_a_life(host, vhdx):
    report = boot(host, vhdx, cpus=2, memory="1G")
    assert host.ran == ["probe.ps1", "boot.ps1"]
    assert report.docker_host == "tcp://10.0.2.15:2376"
    assert report.accelerator == "hyperv"
    assert any("no directory is shared" in note for note in report.notes)
    instance = Instance("default")
    assert native.describe(instance, host.tools) == {
        "name": "default",
        "directory": str(instance.directory),
        "profile": "default",
        "accelerator": "hyperv",
        "cpus": 2,
        "memory": 1024,
        "started": native.read_record(instance).started,
        "state": "running",
        "docker_host": "tcp://10.0.2.15:2376",
        "cert_path": str(report.cert_path),
    }
    assert report.context == "cofferdam"
    stopped = native.stop(instance, tools=host.tools)
    assert (stopped.how, stopped.context) == ("guest", "cofferdam")
    assert native.describe(instance, host.tools) is None
    assert has_data(instance)
    assert latest(instance).native
    assert native.boot(latest(instance), Progress(quiet=True), host.tools).instance == "default"


def test_what_the_guest_reads_is_what_was_handed_over(host, vhdx, tmp_path):
    policy = tmp_path / "admin-settings.json"
    policy.write_text('{"configurationFileVersion": 2}')
    boot(host, vhdx, policy=policy)
    found = configdisk.parse(host.disk[: configdisk.LIMIT])
    assert found.keys() == {"tls-ca", "tls-cert", "tls-key", "admin-settings", "resolver"}
    assert b"PRIVATE KEY" in found["tls-key"]
    assert found["admin-settings"] == policy.read_bytes()
    assert configdisk.resolvers(found["resolver"]) == "nameserver 192.0.2.53\n"


def test_a_resolver_on_the_hosts_loopback_is_none_for_the_guest(host, vhdx):
    host.facts["resolvers"] = ["127.0.0.53"]
    report = boot(host, vhdx)
    assert "resolver" not in configdisk.parse(host.disk[: configdisk.LIMIT])
    assert any("names do not resolve" in note for note in report.notes)


@pytest.mark.parametrize(
    ("missing", "text", "hint"),
    [
        ("module", "Hyper-V is not on", FEATURE),
        ("service", "Hyper-V is not on", "restart Windows"),
        ("allowed", "not a member of `Hyper-V Administrators`", JOIN),
        ("switch", "network of the machines is not there", "network.ps1"),
        ("address", "network of the machines is not there", "As administrator: powershell -ExecutionPolicy Bypass -File"),
        ("nat", "network of the machines is not there", "once for this host"),
    ],
)
def test_each_thing_that_a_host_may_lack(host, vhdx, missing, text, hint):
    host.facts[missing] = False
    with pytest.raises(HostError, match=text) as error:
        boot(host, vhdx)
    assert hint in error.value.hint
    assert host.ran == ["probe.ps1"], "and nothing else was done"
    assert (Instance("default").hyperv_directory / "network.ps1").read_bytes().startswith(b"\xef\xbb\xbf# Made by Cofferdam")


@pytest.mark.parametrize(
    "text", ["", "nonsense", "{}", json.dumps(FACTS | {"resolvers": ["x"]}), json.dumps(FACTS | {"nat": "yes"})]
)
def test_a_probe_that_tells_something_else(text):
    with pytest.raises(HostError, match="does not tell"):
        read_facts(text)
    require(read_facts(json.dumps(FACTS)), "network.ps1")


@pytest.mark.parametrize("broken", ["boot.ps1", "docker", "ended"])
def test_a_boot_that_fails_leaves_only_the_data_disk(host, vhdx, broken):
    host.broken = broken
    host.answers = broken == "boot.ps1"
    if broken == "ended":
        shell = host.shell

        def ends(path: Path, script: str) -> str:
            said = shell(path, script)
            host.state = "Off" if path.name == "boot.ps1" else host.state
            return said

        tools = Tools(ends, host.ping)
    else:
        tools = host.tools
    text = {"boot.ps1": "boot.ps1 failed", "docker": "does not answer at 10.0.2.15:2376", "ended": "Hyper-V says: Off"}[broken]
    with pytest.raises(BootError, match=text):
        native.boot(settings(vhdx, timeout=0.01), Progress(quiet=True), tools)
    assert host.ran[-1] == "stop.ps1"
    assert not Instance("default").hyperv.exists()


def test_there_is_one_address_and_so_one_machine(host, vhdx):
    boot(host, vhdx, name="first")
    with pytest.raises(InstanceError, match="`first` already runs on Hyper-V") as error:
        boot(host, vhdx, name="second")
    assert "inv stop --name first" in error.value.hint
    assert not Instance("second").hyperv.exists()


def test_a_machine_that_ended_by_itself_is_told_and_tidied_up(host, vhdx):
    boot(host, vhdx)
    host.state = "Off"
    row = native.describe(Instance("default"), host.tools)
    assert row["state"] == "stale"
    assert "`inv stop` tidies up" in row["note"]
    assert native.stop(Instance("default"), tools=host.tools).how == "not running"
    host.broken = "state.ps1"
    boot_again = native.describe(Instance("default"), host.tools)
    assert boot_again is None


@pytest.mark.parametrize(
    "more", [{"shares": ["/home/a"]}, {"socket": "/tmp/x"}, {"docker_port": 1234}, {"ssh_port": 1}, {"publish": "0.0.0.0"}]
)
def test_what_only_a_machine_of_qemu_has(host, vhdx, more):
    with pytest.raises(UsageError, match="and --native"):
        boot(host, vhdx, **more)
    assert host.ran == []


def test_on_this_system_it_is_refused_before_anything_else():
    with pytest.raises(HostError, match="this is Linux"):
        api.boot(boot_settings(hyperv=True, native=True), Progress(quiet=True))
    assert not Instance("default").directory.exists()


def test_qemu_does_not_take_what_hyper_v_runs(host, vhdx):
    boot(host, vhdx)
    with pytest.raises(InstanceError, match="one of Hyper-V's"):
        api.boot(boot_settings(), Progress(quiet=True))


def test_a_damaged_record_is_said(host, vhdx):
    boot(host, vhdx)
    Instance("default").hyperv.write_text("{")
    with pytest.raises(InstanceError, match="damaged") as error:
        native.stop(Instance("default"), tools=host.tools)
    assert "Hyper-V Manager" in error.value.hint


def test_the_image_is_found_or_told(tmp_path, vhdx, monkeypatch):
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    for place in (vhdx, vhdx.parent):
        assert find_vhdx(boot_settings(image=place)) == vhdx
    with pytest.raises(UsageError, match="there is none") as error:
        find_vhdx(boot_settings(profile="debug"))
    assert "inv build-vm --profile debug --format vhdx" in error.value.hint
    built = tmp_path / "cache/images/debug/disk.vhdx"
    built.parent.mkdir(parents=True)
    built.write_bytes(b"vhdxfile")
    assert find_vhdx(boot_settings(profile="debug")) == built
    other = vhdx.with_name("cofferdam-0.1.0-debug.vhdx")
    other.write_bytes(b"QFI\xfb")
    assert find_vhdx(boot_settings(image=vhdx.parent)) == vhdx, "that of the profile"
    with pytest.raises(UsageError, match="is not a VHDX"):
        find_vhdx(boot_settings(image=vhdx.parent, profile="debug"))
    vhdx.with_name("cofferdam-0.2.0-default.vhdx").write_bytes(b"vhdxfile")
    with pytest.raises(UsageError, match="there are several"):
        find_vhdx(boot_settings(image=vhdx.parent))


def test_the_disk_says_what_it_is():
    disk = fixed_vhd(b"first", bytes(range(16)), now=946684800 + 77)
    assert (len(disk) - 512) % 2**20 == 0
    footer = disk[-512:]
    assert footer[:8] == b"conectix"
    assert struct.unpack_from(">I", footer, 24) == (77,)
    assert struct.unpack_from(">QQ", footer, 40) == (len(disk) - 512,) * 2
    (told,) = struct.unpack_from(">I", footer, 64)
    assert told == ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF
    assert footer[68:84] == bytes(range(16))


def test_more_than_the_guest_reads_is_never_written():
    with pytest.raises(ValueError, match="more than"):
        content([b"x" * LIMIT], [])
    assert LIMIT == configdisk.LIMIT


@pytest.mark.skipif(QEMU is None, reason="needs QEMU on this machine")
def test_another_reader_of_the_format_takes_the_disk(tmp_path):
    data = content([b"io.systemd.credential.binary:cofferdam.tls-ca=YQ=="], [IPv4Address("192.0.2.1")])
    (tmp_path / "a.vhd").write_bytes(fixed_vhd(data, bytes(16)))
    (tmp_path / "raw").write_bytes(bytes(4 * 2**20))
    nodes = [
        {"driver": "vpc", "node-name": "vhd", "read-only": True, "file": {"driver": "file", "filename": str(tmp_path / "a.vhd")}},
        {"driver": "raw", "node-name": "raw", "file": {"driver": "file", "filename": str(tmp_path / "raw")}},
    ]
    words = [QEMU, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]
    for node in nodes:
        words += ["-blockdev", json.dumps(node)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    copy = {"execute": "blockdev-backup", "arguments": {"device": "vhd", "target": "raw", "sync": "full", "job-id": "copy"}}
    with process:
        try:
            for command in ({"execute": "qmp_capabilities"}, copy):
                process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                said = json.loads(line)
                assert "error" not in said, line
                if said.get("event") == "BLOCK_JOB_COMPLETED":
                    break
        finally:
            process.kill()
    found = (tmp_path / "raw").read_bytes()
    assert found == data + bytes(4 * 2**20 - len(data))


def test_a_script_is_written_so_that_windows_reads_it(tmp_path):
    write_script(tmp_path / "a.ps1", "'ä'\n")
    assert (tmp_path / "a.ps1").read_bytes() == "\ufeff'ä'\r\n".encode()
    with pytest.raises(BootError, match=r"a\.ps1 failed") as error:
        powershell(tmp_path / "a.ps1", "")
    assert str(tmp_path / "a.ps1") in error.value.hint
