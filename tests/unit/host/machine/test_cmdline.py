"""QEMU's arguments: a stored list for each kind of host, and the rules behind them.

`COFFERDAM_GOLDEN=write` writes the stored lists anew; look at the difference before committing it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import pytest

from cofferdam.errors import HostError
from cofferdam.image.kernelline import kernel_command_line
from cofferdam.machine.channels import Address, Channel
from cofferdam.machine.cmdline import Firmware, MachineSpec, qemu_arguments
from cofferdam.machine.facts import HostFacts, QemuFacts

GOLDEN = Path(__file__).parent / "golden"


def facts(system: str, version: tuple[int, int], binary: str = "/usr/bin/qemu-system-x86_64") -> HostFacts:
    qemu = QemuFacts(binary, version, frozenset({"kvm", "tcg", "hvf", "whpx"}), sandbox=system == "linux")
    return HostFacts(system=system, machine="x86_64", qemu=qemu)


HOME = PurePosixPath("/home/a")


def port(number: int, home: PurePath) -> Channel:
    return Channel(Address(port=number, keys=str(home / "work/credentials/channels")))


def spec(accelerator: str, home: PurePath = HOME, **changes: object) -> MachineSpec:
    windows = isinstance(home, PureWindowsPath)
    values = {
        "name": "work",
        "accelerator": accelerator,
        "cpus": 4,
        "memory": 2048,
        "kernel": home / "image/vmlinuz",
        "kernel_words": ["loglevel=4"],
        "root": home / "image/root.erofs",
        "data": home / "work/data.raw",
        "console": home / "work/console.log",
        "pidfile": home / "work/qemu.pid",
        "qmp": port(50001, home) if windows else Channel(Address(path="/run/q"), 7),
        "ready": port(50002, home) if windows else Channel(Address(path="/run/r"), 8),
        "keeper_qmp": port(50003, home) if windows else Channel(Address(path="/run/k"), 9),
        "desktop_ports": port(50004, home) if windows else Channel(Address(path="/run/p"), 10),
        "denied": port(50005, home) if windows else Channel(Address(path="/run/d"), 11),
        "docker_port": 2376,
        "credentials": (home / "work/tls-ca", home / "work/tls-cert"),
        "channel_keys": home / "work/credentials/channels" if windows else None,
        **changes,
    }
    return MachineSpec(**values)


WINDOWS = PureWindowsPath("C:/Users/a b")
HOSTILE = PureWindowsPath("C:/Users/a,b=c; & 'd' %PATH%")
QEMU_EXE = r"C:\Program Files\qemu\qemu-system-x86_64.exe"
CASES = {
    "linux-kvm": (spec("kvm"), facts("linux", (9, 2))),
    "linux-kvm-shares": (
        spec("kvm", shares=[("share0", HOME / "run/share0"), ("share1", HOME / "a,b/share1")]),
        facts("linux", (9, 2)),
    ),
    "linux-tcg": (spec("tcg", ssh_port=2222), facts("linux", (7, 2))),
    "linux-kvm-verity": (spec("kvm", hashes=HOME / "image/root.verity"), facts("linux", (9, 2))),
    "linux-tcg-disk": (
        spec("tcg", root=HOME / "disk.raw", firmware=Firmware(HOME / "OVMF_CODE.fd", HOME / "work/firmware.fd")),
        facts("linux", (7, 2)),
    ),
    "linux-kvm-tpm": (
        spec(
            "kvm",
            root=HOME / "disk.raw",
            firmware=Firmware(HOME / "OVMF_CODE.secboot.fd", HOME / "work/firmware.fd", secure=True),
            tpm=HOME / "a,b/tpm",
        ),
        facts("linux", (9, 2)),
    ),
    "linux-kvm-secure-boot": (
        spec(
            "kvm",
            root=HOME / "disk.qcow2",
            root_format="qcow2",
            firmware=Firmware(HOME / "OVMF_CODE.secboot.fd", HOME / "work/firmware.fd", True),
            shares=[("share0", HOME / "run/share0")],
        ),
        facts("linux", (9, 2)),
    ),
    "linux-kvm-enlightened": (spec("kvm", enlightened=True), facts("linux", (9, 2))),
    "windows-tcg": (spec("tcg", HOSTILE), facts("windows", (10, 1), QEMU_EXE)),
    "windows-whpx-10": (spec("whpx", WINDOWS, ssh_port=2222), facts("windows", (10, 2), QEMU_EXE)),
    "windows-whpx-9": (spec("whpx", WINDOWS), facts("windows", (9, 2), QEMU_EXE)),
    "windows-whpx-11": (spec("whpx", WINDOWS), facts("windows", (11, 0), QEMU_EXE)),
    "macos-apple-silicon": (
        spec("tcg", PurePosixPath("/Users/a")),
        dataclasses.replace(facts("darwin", (10, 0), "/opt/homebrew/bin/qemu-system-x86_64"), machine="arm64"),
    ),
    "macos-hvf": (spec("hvf", PurePosixPath("/Users/a")), facts("darwin", (10, 0), "/opt/homebrew/bin/qemu-system-x86_64")),
}


def test_an_unusual_mtu_is_told_to_the_guests_driver():
    device = [word for word in qemu_arguments(spec("kvm", mtu=1400), facts("linux", (9, 2))) if "virtio-net" in word]
    assert device == ["virtio-net-pci,netdev=net,romfile=,addr=0x5,host_mtu=1400"]
    assert not any("host_mtu" in word for word in qemu_arguments(spec("kvm"), facts("linux", (9, 2))))


@pytest.mark.parametrize("name", sorted(CASES))
def test_arguments_are_the_stored_ones(name):
    made = "\n".join(qemu_arguments(*CASES[name])) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("COFFERDAM_GOLDEN") == "write":
        path.write_text(made, encoding="utf-8")
    assert made == path.read_text(encoding="utf-8")


def test_no_stored_list_is_left_over():
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


def option(arguments: list[str], name: str) -> list[str]:
    return [arguments[at + 1] for at, word in enumerate(arguments) if word == name]


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_holds_on_every_host(name):
    this, host = CASES[name]
    arguments = qemu_arguments(this, host)
    assert arguments[0] == host.qemu.binary
    assert "-S" in arguments, "the guest must not run before somebody listens"
    assert "-nodefaults" in arguments
    assert "-no-reboot" in arguments
    assert option(arguments, "-display") == ["none"]
    disks = [json.loads(text) for text in option(arguments, "-blockdev")]
    written = {disk["node-name"]: disk["file"]["filename"] for disk in disks if not disk.get("read-only", False)}
    own = {"data": str(this.data)} | ({"variables": str(this.firmware.variables)} if this.firmware else {})
    assert written == own, "the guest writes what is its instance's own and nothing else"
    names = [disk["node-name"] for disk in disks if disk["node-name"] not in ("firmware", "variables")]
    assert names == ["root", "data", *(["hashes"] if this.hashes else [])], "/dev/vda, /dev/vdb, /dev/vdc"
    forwards = [word for word in option(arguments, "-netdev")[0].split(",") if word.startswith("hostfwd=")]
    assert forwards, "Docker must be reachable"
    assert all(word.startswith("hostfwd=tcp:127.0.0.1:") for word in forwards), "and only from this machine"
    assert not [text for text in option(arguments, "-netdev")[0].split(",") if text.startswith(("smb=", "tftp=", "guestfwd="))]


def test_the_memory_is_shared_with_servers_only_where_there_are_some():
    arguments, without = (qemu_arguments(*CASES[name]) for name in ("linux-kvm-shares", "linux-kvm"))
    (memory,) = option(arguments, "-object")
    assert memory == "memory-backend-memfd,id=ram,size=2048M,share=on"
    assert option(arguments, "-machine")[0].endswith(",memory-backend=ram")
    assert "memory-backend" not in " ".join(without)


def test_fourteen_shares_have_places_of_their_own_below_the_bridge_of_the_machine():
    shares = [(f"share{number}", HOME / f"s{number}") for number in range(14)]
    devices = option(qemu_arguments(spec("kvm", shares=shares), facts("linux", (9, 2))), "-device")
    places = [int(device.rpartition("addr=")[2].partition(",")[0], 16) for device in devices if "addr=" in device]
    assert len(set(places)) == len(places)
    assert max(places) < 0x1E


def test_with_firmware_kernel_and_command_line_are_those_of_the_disk():
    for name in ("linux-tcg-disk", "linux-kvm-secure-boot"):
        arguments = qemu_arguments(*CASES[name])
        assert not {"-kernel", "-append", "-initrd"} & set(arguments)
        assert [word for word in option(arguments, "-device") if "bootindex" in word] == [
            "virtio-blk-pci,drive=root,id=root-disk,addr=0x3,bootindex=0"
        ], "nothing else is started, no network either"


def test_keys_in_the_variables_are_out_of_the_guests_reach_where_secure_boot_counts_on_them():
    secure, plain = (qemu_arguments(*CASES[name]) for name in ("linux-kvm-secure-boot", "linux-tcg-disk"))
    assert ",smm=on," in option(secure, "-machine")[0] and ",smm=off," in option(plain, "-machine")[0]
    assert "driver=cfi.pflash01,property=secure,value=on" in option(secure, "-global")
    assert option(plain, "-global") == []


def test_ssh_is_forwarded_only_when_the_image_has_it():
    without, with_ssh = (
        option(qemu_arguments(spec("kvm", ssh_port=port), facts("linux", (9, 0))), "-netdev")[0] for port in (None, 2222)
    )
    assert ":22" not in without.replace(":2376", "")
    assert with_ssh == f"{without},hostfwd=tcp:127.0.0.1:2222-10.0.2.15:22"


@pytest.mark.parametrize(
    ("version", "expected"), [((7, 2), ",kernel-irqchip=off"), ((10, 9), ",kernel-irqchip=off"), ((11, 0), ""), ((12, 1), "")]
)
def test_the_irqchip_of_whpx_depends_on_the_version(version, expected):
    assert option(qemu_arguments(spec("whpx"), facts("windows", version)), "-accel") == [f"whpx{expected}"]


def test_the_sandbox_is_on_where_qemu_has_one():
    host = facts("linux", (9, 0))
    assert option(qemu_arguments(spec("kvm"), host), "-sandbox")[0].startswith("on,")
    without = dataclasses.replace(host, qemu=dataclasses.replace(host.qemu, sandbox=False))
    assert "-sandbox" not in qemu_arguments(spec("kvm"), without)
    assert "-sandbox" not in qemu_arguments(spec("hvf"), facts("darwin", (9, 0)))


def test_a_comma_in_a_path_does_not_end_the_option():
    arguments = qemu_arguments(spec("kvm", PurePosixPath("/home/a,path=/etc/shadow")), facts("linux", (9, 0)))
    assert option(arguments, "-smbios")[0] == "type=11,path=/home/a,,path=/etc/shadow/work/tls-ca"
    assert "path=/home/a,,path=/etc/shadow/work/console.log" in option(arguments, "-chardev")[0]
    assert json.loads(option(arguments, "-blockdev")[1])["file"]["filename"] == "/home/a,path=/etc/shadow/work/data.raw"


@pytest.mark.parametrize(
    ("name", "system", "model"),
    [
        ("kvm", "linux", "host"),
        ("hvf", "darwin", "host"),
        ("whpx", "windows", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"),
        ("tcg", "linux", "max,la57=off,erms=off,fsrm=off"),
        ("tcg", "windows", "max,la57=off,erms=off,fsrm=off"),
    ],
)
def test_processor_model(name, system, model):
    assert option(qemu_arguments(spec(name), facts(system, (9, 2))), "-cpu") == [model]


def test_hyper_vs_interfaces_are_shown_only_when_asked_for():
    shown, plain = (
        option(qemu_arguments(spec("kvm", enlightened=wanted), facts("linux", (9, 2))), "-cpu")[0] for wanted in (True, False)
    )
    flags = shown.split(",")
    assert flags[0] == plain == "host"
    # hv-synic needs hv-vpindex, hv-stimer needs hv-synic and hv-time (QEMU, docs/system/i386/hyperv).
    assert {"hv-relaxed", "hv-vapic", "hv-time", "hv-vpindex", "hv-synic", "hv-stimer"} <= set(flags)


def test_on_windows_nobody_talks_to_qemu_without_a_key():
    arguments = qemu_arguments(spec("whpx", HOSTILE), facts("windows", (10, 0), QEMU_EXE))
    sockets = [word for word in option(arguments, "-chardev") if word.startswith("socket,")]
    assert len(sockets) == 5
    assert all(",host=127.0.0.1," in word and word.endswith(",tls-creds=channel-keys") for word in sockets)
    (keys,) = option(arguments, "-object")
    assert keys.startswith("tls-creds-x509,id=channel-keys,dir=C:\\Users\\a,,b=c;")
    assert keys.endswith(",endpoint=server,verify-peer=yes")
    assert arguments.index("-object") < arguments.index(sockets[0])


def test_on_windows_a_path_that_qemu_would_not_find_is_refused():
    home = PureWindowsPath("C:/Users/Jürgen")
    with pytest.raises(HostError, match="Jürgen") as error:
        qemu_arguments(spec("whpx", home), facts("windows", (10, 0), QEMU_EXE))
    assert "COFFERDAM_STATE_HOME" in error.value.hint
    assert qemu_arguments(spec("kvm", PurePosixPath("/home/jürgen")), facts("linux", (9, 0)))


def test_on_windows_nothing_is_asked_for_that_it_has_not():
    words = " ".join(qemu_arguments(spec("whpx", WINDOWS), facts("windows", (10, 0), QEMU_EXE)))
    for absent in ("memfd", "vhost", "fd=", "-sandbox", "-daemonize", "aio=native", "free-page-reporting=on"):
        assert absent not in words


def test_the_image_overrides_words_of_the_kernel_command_line():
    plain = kernel_command_line([]).split()
    assert "root=/dev/vda" in plain
    assert "ro" in plain
    changed = kernel_command_line(["root=/dev/dm-0", "rw", "quiet"]).split()
    assert [word for word in changed if word.startswith("root=")] == ["root=/dev/dm-0"]
    assert "ro" not in changed
    assert changed[-2:] == ["rw", "quiet"]
    assert "console=ttyS0" in changed
