"""QEMU's command line: a pure function from settings and facts to an argument list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from cofferdam.errors import HostError
from cofferdam.image.kernelline import GUEST_ADDRESS, kernel_command_line
from cofferdam.machine.channels import LOOPBACK, Channel
from cofferdam.machine.facts import HostFacts
from cofferdam.machine.hosts.traps import Traits, traits
from cofferdam.machine.settings import USUAL_MTU, Accelerator

READY_PORT = "org.cofferdam.ready"
DESKTOP_PORTS_PORT = "org.cofferdam.ports"
DENIED_PORT = "org.cofferdam.denied"
NETDEV = "net"
_MEMORY = "ram"
_KEYS = "channel-keys"
_FIRST_SHARE = 0x10
"""Place on the bus, above all else; from there on there are fourteen."""

DATA_NODE = "data"
DOCKER_GUEST_PORT = 2376
SSH_GUEST_PORT = 22
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True)
class Firmware:
    """What starts a disk: the program, its variables, and whether it is one that enforces Secure Boot."""

    code: PurePath
    variables: PurePath
    secure: bool = False


@dataclass(frozen=True)
class MachineSpec:
    """Everything that one QEMU process is made from. Paths are the host's; sizes in MiB; shares are tags and sockets.

    `enlightened` shows the guest Hyper-V's interfaces, which needs KVM; `channel_keys` is the directory of the ports' TLS keys.
    `hashes` is the tree of a verified root. With `firmware` the machine starts its first disk, `root`, by itself: kernel, command
    line and hashes are on it. `tpm` is the socket of its TPM.
    """

    name: str
    accelerator: Accelerator
    cpus: int
    memory: int
    kernel: PurePath
    kernel_words: Sequence[str]
    root: PurePath
    data: PurePath
    console: PurePath
    pidfile: PurePath
    qmp: Channel
    ready: Channel
    keeper_qmp: Channel
    desktop_ports: Channel
    denied: Channel
    docker_port: int
    ssh_port: int | None = None
    mtu: int = USUAL_MTU
    credentials: Sequence[PurePath] = field(default_factory=tuple)
    shares: Sequence[tuple[str, PurePath]] = field(default_factory=tuple)
    enlightened: bool = False
    channel_keys: PurePath | None = None
    hashes: PurePath | None = None
    root_format: str = "raw"
    firmware: Firmware | None = None
    tpm: PurePath | None = None


def qemu_arguments(spec: MachineSpec, facts: HostFacts) -> list[str]:
    """The argument list, program first. QEMU starts stopped (`-S`): the caller connects to its channels, then lets it run.

    Raises:
        HostError: a path that QEMU on Windows would not find.
    """
    if facts.system == "windows":
        _refuse_names(spec.kernel, spec.root, spec.data, *([spec.hashes] if spec.hashes is not None else []))
    host = traits(spec.accelerator, facts.system, facts.qemu.version, enlightened=spec.enlightened)
    return [
        facts.qemu.binary,
        *_process(spec, facts),
        *_machine(spec, host),
        *_shares(spec),
        *_boot(spec),
        *_tpm(spec),
        *_disks(spec),
        *_network(spec),
        *_channels(spec, host),
    ]


def _refuse_names(*paths: PurePath) -> None:
    for path in paths:
        if not str(path).isascii():
            message = f"QEMU on Windows opens no file whose path has other letters than those of ASCII: {path}"
            raise HostError(message, hint="Set COFFERDAM_STATE_HOME and COFFERDAM_CACHE_HOME to directories without them.")


def _process(spec: MachineSpec, facts: HostFacts) -> list[str]:
    words = ["-name", f"guest=cofferdam-{spec.name}", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S"]
    words += ["-pidfile", str(spec.pidfile)]
    return [*words, "-sandbox", _SANDBOX] if facts.system == "linux" and facts.qemu.sandbox else words


def _machine(spec: MachineSpec, host: Traits) -> list[str]:
    return [
        *("-machine", ",".join(["q35", *_machine_options(spec)])),
        *("-accel", ",".join(filter(None, (spec.accelerator, host.accel)))),
        *("-cpu", host.cpu),
        *("-smp", str(spec.cpus)),
        *("-m", f"{spec.memory}M"),
    ]


def _machine_options(spec: MachineSpec) -> list[str]:
    # Variables that the guest must not write are kept by firmware in this mode of the processor.
    secure = spec.firmware is not None and spec.firmware.secure
    options = [f"smm={'on' if secure else 'off'}", "vmport=off", "usb=off", "graphics=off"]
    options += [f"memory-backend={_MEMORY}"] if spec.shares else []
    return [*options, "pflash0=firmware", "pflash1=variables"] if spec.firmware is not None else options


def _shares(spec: MachineSpec) -> list[str]:
    if not spec.shares:
        return []
    # The servers read and write the guest's memory themselves.
    words = ["-object", f"memory-backend-memfd,id={_MEMORY},size={spec.memory}M,share=on"]
    for number, (tag, path) in enumerate(spec.shares):
        words += ["-chardev", f"socket,id={tag},path={_escape(path)}"]
        words += ["-device", f"vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024,addr={_FIRST_SHARE + number:#x}"]
    return words


def _boot(spec: MachineSpec) -> list[str]:
    if spec.firmware is None:
        words = ["-kernel", str(spec.kernel), "-append", kernel_command_line(spec.kernel_words)]
    else:
        words = _firmware(spec.firmware)
    for path in spec.credentials:
        words += ["-smbios", f"type=11,path={_escape(path)}"]
    return words


def _firmware(firmware: Firmware) -> list[str]:
    words = ["-blockdev", json.dumps(_read_only("firmware", firmware.code))]
    variables = {"driver": "raw", "node-name": "variables", "file": {"driver": "file", "filename": str(firmware.variables)}}
    words += ["-blockdev", json.dumps(variables)]
    # Only firmware writes the flash, and it need not trust what it did before a sleep.
    secure = ["driver=cfi.pflash01,property=secure,value=on", "ICH9-LPC.disable_s3=1"] if firmware.secure else []
    return [*words, *(word for setting in secure for word in ("-global", setting))]


def _tpm(spec: MachineSpec) -> list[str]:
    if spec.tpm is None:
        return []
    words = ["-chardev", f"socket,id=tpm,path={_escape(spec.tpm)}", "-tpmdev", "emulator,id=tpm-emulator,chardev=tpm"]
    return [*words, "-device", "tpm-crb,tpmdev=tpm-emulator"]


def _read_only(name: str, path: PurePath, driver: str = "raw") -> dict[str, object]:
    return {"driver": driver, "node-name": name, "read-only": True, "file": {"driver": "file", "filename": str(path)}}


def _disks(spec: MachineSpec) -> list[str]:
    root = _read_only("root", spec.root, spec.root_format)
    data = {
        "driver": "raw",
        "node-name": DATA_NODE,
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "file": {"driver": "file", "filename": str(spec.data), "discard": "unmap"},
    }
    # The first virtio disk is /dev/vda, the next /dev/vdb and /dev/vdc: fixed slots, so that no other device changes that.
    first = ",bootindex=0" if spec.firmware is not None else ""
    hashes = ["-blockdev", json.dumps(_read_only("hashes", spec.hashes))] if spec.hashes is not None else []
    return [
        *("-blockdev", json.dumps(root)),
        *("-device", f"virtio-blk-pci,drive=root,id=root-disk,addr=0x3{first}"),
        *("-blockdev", json.dumps(data)),
        *("-device", "virtio-blk-pci,drive=data,id=data-disk,addr=0x4,discard=on,write-cache=on"),
        *(hashes and [*hashes, "-device", "virtio-blk-pci,drive=hashes,id=hashes-disk,addr=0x9"]),
    ]


def _network(spec: MachineSpec) -> list[str]:
    forwards = [(spec.docker_port, DOCKER_GUEST_PORT)]
    forwards += [(spec.ssh_port, SSH_GUEST_PORT)] if spec.ssh_port else []
    rules = "".join(f",hostfwd=tcp:{LOOPBACK}:{port}-{GUEST_ADDRESS}:{inside}" for port, inside in forwards)
    # The guest's driver takes it for its interface; that of an unusual one alone, so that the usual one is as it always was.
    mtu = f",host_mtu={spec.mtu}" if spec.mtu != USUAL_MTU else ""
    # An empty romfile leaves out the network boot program and the seconds it waits.
    return ["-netdev", f"user,id={NETDEV},ipv6=off{rules}", "-device", f"virtio-net-pci,netdev={NETDEV},romfile=,addr=0x5{mtu}"]


def _channels(spec: MachineSpec, host: Traits) -> list[str]:
    reporting = "on" if host.page_reporting else "off"
    return [
        *_channel_keys(spec),
        *("-device", "virtio-rng-pci,addr=0x6"),
        *("-device", f"virtio-balloon-pci,free-page-reporting={reporting},addr=0x7"),
        *("-chardev", f"file,id=console,path={_escape(spec.console)},append=on", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci,addr=0x8"),
        *("-chardev", _socket("ready", spec.ready), "-device", f"virtserialport,chardev=ready,name={READY_PORT}"),
        *("-chardev", _socket("ports", spec.desktop_ports), "-device", f"virtserialport,chardev=ports,name={DESKTOP_PORTS_PORT}"),
        *("-chardev", _socket("denied", spec.denied), "-device", f"virtserialport,chardev=denied,name={DENIED_PORT}"),
        *("-chardev", _socket("qmp", spec.qmp), "-mon", "chardev=qmp,mode=control"),
        *("-chardev", _socket("keeper-qmp", spec.keeper_qmp), "-mon", "chardev=keeper-qmp,mode=control"),
    ]


def _channel_keys(spec: MachineSpec) -> list[str]:
    if spec.channel_keys is None:
        return []
    return ["-object", f"tls-creds-x509,id={_KEYS},dir={_escape(spec.channel_keys)},endpoint=server,verify-peer=yes"]


def _socket(name: str, channel: Channel) -> str:
    if channel.handle is not None:
        return f"socket,id={name},fd={channel.handle},server=on,wait=off"
    # A port, unlike a socket's file, is everybody's: who has no key of this machine gets no further.
    return f"socket,id={name},host={LOOPBACK},port={channel.address.port},server=on,wait=off,tls-creds={_KEYS}"


def _escape(path: PurePath) -> str:
    """A path inside a QEMU option list, where a comma is written twice."""
    return str(path).replace(",", ",,")
