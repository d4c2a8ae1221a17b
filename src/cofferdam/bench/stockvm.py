"""The stock Debian on a virtual machine like ours: same QEMU, same devices, reached in the same way.

For most rows it runs on our kernel, which spares it the initramfs and the modules of a real Debian: the peer is rather faster
than it would be. Its first boot, in which Debian's units and dockerd write what later boots find, counts nowhere, and what a
later one writes is thrown away. Docker listens with mutual TLS on a forwarded port, and there is ssh, as in a debug image.
"""

from __future__ import annotations

import base64
import datetime
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cofferdam.bench.client import Client, docker_program
from cofferdam.bench.image import IMAGE
from cofferdam.bench.model import EMULATION
from cofferdam.bench.ports import PORT
from cofferdam.bench.stock import READY, Stock
from cofferdam.errors import BootError, InstanceError
from cofferdam.machine.channels import LOOPBACK, Address, free_port
from cofferdam.machine.cmdline import DOCKER_GUEST_PORT, SSH_GUEST_PORT
from cofferdam.machine.context import environment
from cofferdam.machine.credentials import CLIENT_FILES, Material, new_material
from cofferdam.machine.facts import probe_host
from cofferdam.machine.hostos import wait_until, write_private
from cofferdam.machine.ssh import write_known_hosts
from cofferdam.rootfs.keys import make_key
from cofferdam.run import CommandError, Process, run, spawn
from cofferdam.tools.tree import ToolsTree

_TIMEOUT = 400.0
_AUTHORIZED = "io.systemd.credential.binary:ssh.authorized_keys.root"
"""systemd's name of what root's authorized_keys are made from (systemd.system-credentials(7))."""
_TLS = "/etc/docker/tls"
_SERVER = ("ca", "cert", "key")
_DROPIN = f"""[Service]
ExecStart=
ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock -H tcp://0.0.0.0:{DOCKER_GUEST_PORT} \
--tlsverify --tlscacert={_TLS}/ca --tlscert={_TLS}/cert --tlskey={_TLS}/key
"""


@dataclass(frozen=True)
class Machine:
    """What the stock Debian is booted with.

    Attributes:
        accelerator: QEMU's.
        cpus: virtual processors.
        memory: MiB.
        words: further ones for the kernel's command line; see `words_for_tests`.
        kernel: the kernel, ours or Debian's own.
        initrd: what that kernel needs to find the root; none for ours.
    """

    accelerator: str
    cpus: int
    memory: int
    words: Sequence[str]
    kernel: Path
    initrd: Path | None = None


def words_for_tests(ours: Sequence[str], usual: Sequence[str]) -> list[str]:
    """What the image that is measured has on its kernel's command line and the default one has not, which the peer gets as well.

    The others harden ours; what they cost is ours.
    """
    return [word for word in ours if word not in usual]


@dataclass(frozen=True)
class StockVm:
    """A stock Debian that was booted once and has the bench's image.

    Attributes:
        directory: where its disk, console and monitor are.
        client: for its Docker and its shell, while it runs.
        docker_port: this machine's port of its Docker.
        published: this machine's port that leads to `PORT` in it.
        authorized: the public key that ssh lets in.
    """

    directory: Path
    client: Client
    docker_port: int
    published: int
    authorized: bytes

    @property
    def disk(self) -> Path:
        """Its root."""
        return self.directory / "root.ext4"

    @property
    def console(self) -> Path:
        """What it said."""
        return self.directory / "console.log"

    @property
    def monitor(self) -> Address:
        """QEMU's monitor."""
        return Address(path=str(self.directory / "qmp"))

    @contextmanager
    def powered_on(self, machine: Machine, more: Sequence[str] = (), *, keep: bool = False) -> Iterator[Process[bytes]]:
        """It runs for the length of the block, at whose beginning Docker is up; QEMU's process.

        Args:
            machine: what it is booted with.
            more: further words for QEMU.
            keep: whether what it writes to its disk stays.

        Raises:
            BootError: Docker did not come up.
        """
        self.console.write_text("")
        process = spawn([probe_host().qemu.binary, *arguments(self, machine, keep=keep), *more])
        try:
            self._wait(lambda: READY in self._said(), "bring Docker up", process)
            yield process
        finally:
            process.kill()
            process.wait()

    def wait_off(self, process: Process[bytes]) -> None:
        """Wait until it has switched itself off. Raises BootError: it does not."""
        if not wait_until(lambda: process.poll() is not None, _TIMEOUT):
            raise self._failed("switch itself off")

    def _wait(self, condition: Callable[[], bool], what: str, process: Process[bytes]) -> None:
        if not wait_until(lambda: condition() or process.poll() is not None, _TIMEOUT) or not condition():
            raise self._failed(what)

    def _said(self) -> str:
        return self.console.read_text(errors="replace")

    def _failed(self, what: str) -> BootError:
        tail = "\n".join(self._said().splitlines()[-10:])
        return BootError(f"the stock Debian did not {what}; its last lines:\n{tail}", hint="See src/cofferdam/bench/stockvm.py.")


@contextmanager
def stock_vm(stock: Stock, machine: Machine, layer: Path, tools: ToolsTree) -> Iterator[StockVm]:
    """A copy of the stock Debian in a directory that lives as long as the block, booted once and switched off.

    Args:
        stock: the stock Debian.
        machine: what its first boot runs on.
        layer: the bench's image, a tar.
        tools: the tree with a docker program, for machines that have none.

    Raises:
        BootError: it did not come up, or not end by itself.
    """
    with tempfile.TemporaryDirectory(prefix="cofferdam-bench-") as name:
        directory = Path(name)
        material = new_material("bench", datetime.datetime.now(datetime.UTC))
        vm = _described(directory, stock, material, docker_program(tools.path))
        run(["cp", "--sparse=always", stock.root, vm.disk])
        with vm.powered_on(machine, keep=True) as process:
            _prepare(vm.client, material)
            vm.client.docker("import", str(layer), IMAGE)
            vm.client.shell("systemctl --no-block poweroff")
            vm.wait_off(process)
        yield vm


def _described(directory: Path, stock: Stock, material: Material, program: str) -> StockVm:
    user = make_key("bench")
    key, known_hosts, certificates, config = (directory / name for name in ("ssh_key", "known_hosts", "client", "docker"))
    write_private(key, user.private.decode())
    write_known_hosts(known_hosts, stock.host_key)
    for path in (certificates, config):
        path.mkdir()
    for name, content in zip(CLIENT_FILES, (material.authority, *material.client), strict=True):
        write_private(certificates / name, content.decode())
    docker = free_port()
    ssh = free_port(taken=[docker])
    variables = environment(f"tcp://{LOOPBACK}:{docker}", certificates)
    client = Client(variables, ssh, program, config, key, known_hosts)
    return StockVm(directory, client, docker, free_port(taken=[docker, ssh]), user.public)


def _prepare(client: Client, material: Material) -> None:
    """Let Docker listen on a port, as it does from the next boot on."""

    def answers() -> bool:
        try:
            client.shell("true")
        except CommandError:
            return False
        return True

    if not wait_until(answers, _TIMEOUT, step=1.0):
        raise InstanceError("ssh of the stock Debian does not answer", hint="See src/cofferdam/bench/stockvm.py.")
    client.shell(f"mkdir -pm 700 {_TLS} /etc/systemd/system/docker.service.d")
    for name, content in zip(_SERVER, (material.authority, *material.server), strict=True):
        client.shell(f"cat >{_TLS}/{name}", input=content)
    client.shell("cat >/etc/systemd/system/docker.service.d/bench.conf", input=_DROPIN.encode())
    client.shell("systemctl daemon-reload && systemctl restart docker.service")


def arguments(vm: StockVm, machine: Machine, *, keep: bool) -> list[str]:
    """QEMU's arguments: the machine and the devices of `cofferdam.machine.cmdline`, with one disk."""
    emulated = machine.accelerator == EMULATION
    words = ["root=/dev/vda", "rw", "rootfstype=ext4", "console=ttyS0", "tsc=reliable", "no_timer_check", "quiet", *machine.words]
    ports = ((vm.docker_port, DOCKER_GUEST_PORT), (vm.client.ssh_port, SSH_GUEST_PORT), (vm.published, PORT))
    forwards = "".join(f",hostfwd=tcp:{LOOPBACK}:{port}-:{inside}" for port, inside in ports)
    authorized = base64.b64encode(vm.authorized).decode()
    return [
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35,smm=off,vmport=off,usb=off,graphics=off"),
        *("-accel", "tcg,thread=multi" if emulated else machine.accelerator),
        *("-cpu", "max,la57=off" if emulated else "host"),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory}M"),
        *("-kernel", str(machine.kernel), "-append", " ".join(words)),
        *(("-initrd", str(machine.initrd)) if machine.initrd is not None else ()),
        *("-smbios", f"type=11,value={_AUTHORIZED}={authorized}"),
        *("-drive", f"file={vm.disk},format=raw,if=none,id=root,discard=unmap,snapshot={'off' if keep else 'on'}"),
        *("-device", "virtio-blk-pci,drive=root"),
        *("-netdev", f"user,id=net,ipv6=off{forwards}", "-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-rng-pci", "-device", "virtio-balloon-pci,free-page-reporting=on"),
        *("-chardev", f"file,id=console,path={vm.console}", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=qmp,path={vm.monitor.path},server=on,wait=off", "-mon", "chardev=qmp,mode=control"),
    ]
