"""One QEMU process: started with its sockets and lock handed over, connected to while held, then let run until it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cofferdam.errors import BootError, InstanceError
from cofferdam.guestconfig import Share
from cofferdam.machine.channels import Address, Channel, connect, listening
from cofferdam.machine.cmdline import MachineSpec, qemu_arguments
from cofferdam.machine.console import last_lines
from cofferdam.machine.credentials import Credentials
from cofferdam.machine.facts import HostFacts
from cofferdam.machine.hostos import WINDOWS, process_start, wait_until
from cofferdam.machine.hosts.channeltls import make_keys
from cofferdam.machine.instance import SOCKETS, Instance, PolicyFacts, Record
from cofferdam.machine.qmp import Monitor
from cofferdam.machine.ready import MachineEnded, Timeline, Waiter, Watched
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.shares.server import Server, ended, serving
from cofferdam.machine.tpm.server import TpmServer, tpm_ended
from cofferdam.machine.tpm.server import serving as serving_tpm
from cofferdam.progress import Progress
from cofferdam.run import Process, spawn

if TYPE_CHECKING:
    from cofferdam.image.verity import Verity
    from cofferdam.machine.firmware import BootDisk

_QEMU_START = 60.0
Found = TypeVar("Found")
_PORT_TAKEN = "Could not set up host forwarding rule"


class BootImage(Protocol):
    """What booting needs of an image."""

    @property
    def directory(self) -> Path:
        """Where its files are."""

    @property
    def data_format(self) -> int:
        """The newest format of a data disk that it can use."""

    @property
    def profile(self) -> str:
        """Name of the profile it was made from."""

    @property
    def kernel(self) -> Path:
        """The kernel, a bzImage."""

    @property
    def root(self) -> Path:
        """The root file system."""

    @property
    def cmdline(self) -> list[str]:
        """The image's own words of the kernel command line."""

    @property
    def verity(self) -> Verity | None:
        """How the root is verified; none when it is not."""

    @property
    def hashes(self) -> Path | None:
        """The tree of hashes of a verified root."""

    @property
    def ssh_key(self) -> Path | None:
        """Private key that ssh lets in; none for images without ssh."""

    @property
    def policy(self) -> Path | None:
        """A copy of the policy in the image; none when it is not known."""

    @property
    def ssh_known_hosts(self) -> Path | None:
        """Public host key of the image's ssh."""


class PortTaken(BootError):
    """Another program took a host port between the choice and QEMU's start."""


@dataclass(frozen=True)
class Launch:
    """What stays the same over all attempts of one boot."""

    settings: BootSettings
    image: BootImage
    facts: HostFacts
    instance: Instance
    credentials: Credentials
    policy: PolicyFacts
    progress: Progress
    shares: tuple[Share, ...] = ()
    virtiofsd: tuple[str, ...] = ()
    disk: BootDisk | None = None


# Long-lived processes started by this Python process, kept so that they are waited for: no zombies in a long-lived caller.
_children: list[Process[bytes]] = []


def adopt(process: Process[bytes]) -> None:
    """Remember a process that outlives the call, for `reap`."""
    _children.append(process)


def reap() -> int:
    """Collect the exit status of adopted processes that have ended; how many still run."""
    _children[:] = [process for process in _children if process.poll() is None]
    return len(_children)


def run_machine(this: Launch, record: Record) -> Timeline:
    """Start QEMU and wait until the guest is ready; the record gets the process and its addresses.

    Raises:
        PortTaken, NoHeartbeat, MachineEnded, BootError: see there. QEMU may still run then.
    """
    process = _start(this, record)
    with ExitStack() as stack:
        try:
            port = stack.enter_context(_patiently(lambda: connect(Address.from_text(record.ready_port), _QEMU_START), process))
            monitor = _patiently(lambda: stack.enter_context(Monitor(Address.from_text(record.qmp), _QEMU_START)), process)
        except (OSError, InstanceError) as error:
            raise _start_failure(this, record, process) from error
        watched = Watched(
            port=port,
            console=this.instance.console,
            log=this.instance.qemu_log,
            exit_status=process.poll,
            timeout=this.settings.timeout,
            heartbeat=None if record.accelerator == "tcg" else this.settings.heartbeat,
        )
        waiter = Waiter(watched, this.progress.step)
        monitor.resume()
        # QEMU serves one monitor at a time: leave it to `status` and `stop`.
        monitor.close()
        return waiter.wait()


def _patiently(attempt: Callable[[], Found], process: Process[bytes]) -> Found:
    """Windows cannot hand QEMU a socket that is bound already: there it listens only a moment after its start."""
    deadline = time.monotonic() + _QEMU_START
    while True:
        try:
            return attempt()
        except (OSError, InstanceError):
            if not WINDOWS or process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _start(this: Launch, record: Record) -> Process[bytes]:
    instance = this.instance
    logs = [instance.console, instance.qemu_log, *([instance.shares_log] if this.shares else [])]
    logs += [instance.tpm_log] if _swtpm(this) else []
    for path in logs:
        if path.exists():
            path.replace(path.with_suffix(".log.old"))
        path.touch(mode=0o600)
    if not instance.life.acquire(timeout=1.0):
        raise InstanceError(f"instance `{instance.name}` is already running", hint="See `inv status`.")
    with ExitStack() as stack:
        # From here on QEMU alone holds the lock and listens: when it dies, both are gone.
        stack.enter_context(instance.life.holding())
        servers = stack.enter_context(serving(this.shares, this.virtiofsd, instance))
        record.shares = [server.served for server in servers]
        tpm = stack.enter_context(serving_tpm(_swtpm(this), instance))
        record.tpm = tpm.served if tpm is not None else None
        keys = make_keys(instance.channel_keys, instance.name) if WINDOWS else None
        channels = {kind: stack.enter_context(listening(instance.socket(kind), keys)) for kind in SOCKETS}
        addresses = [channels[kind].address.as_text() for kind in SOCKETS]
        record.qmp, record.ready_port, record.keeper_qmp, record.desktop_ports, record.denied_port = addresses
        instance.write_record(record)
        log = stack.enter_context(instance.qemu_log.open("ab"))
        handles = [channel.handle for channel in channels.values() if channel.handle is not None]
        arguments = qemu_arguments(_spec(this, record, channels, servers, tpm), this.facts)
        process = spawn(arguments, stdout=log, stderr=log, pass_fds=[*handles, instance.life.fileno()] if handles else [])
        helpers = [*(server.process for server in servers), *([tpm.process] if tpm is not None else [])]
        for child in (process, *helpers):
            adopt(child)
    record.pid, record.process_start = process.pid, process_start(process.pid)
    instance.write_record(record)
    return process


def _start_failure(this: Launch, record: Record, process: Process[bytes]) -> BootError:
    """Why QEMU did not come up, from its own words, or those of a server that it could not reach."""
    wait_until(lambda: process.poll() is not None, 2.0)
    reap()
    if gone := ended(record):
        words = "\n".join(f"    {line}" for line in last_lines(this.instance.shares_log, 5))
        hint = "Boot without it: `inv boot --share none`, or share others."
        return MachineEnded(
            f"the server of the shared directory {gone[0]} ended\n{words}", hint=hint, log=this.instance.shares_log
        )
    lines = last_lines(this.instance.qemu_log, 5)
    said = [f"QEMU did not start (status {process.poll()})", *(f"    {line}" for line in lines)]
    if tpm_ended(record):
        # Before QEMU, or with its connection: who was first is in their words alone.
        said += ["its TPM ended, too", *(f"    {line}" for line in last_lines(this.instance.tpm_log, 5))]
    text = "\n".join(said)
    kind = PortTaken if any(_PORT_TAKEN in line for line in lines) else MachineEnded
    return kind(text, hint="See QEMU's log.", log=this.instance.qemu_log)


def _spec(
    this: Launch, record: Record, channels: dict[str, Channel], servers: list[Server], tpm: TpmServer | None = None
) -> MachineSpec:
    return MachineSpec(
        name=this.instance.name,
        accelerator=record.accelerator,
        cpus=record.cpus,
        memory=record.memory,
        **_content(this),
        data=this.instance.data_disk,
        console=this.instance.console,
        pidfile=this.instance.pidfile,
        qmp=channels["qmp"],
        ready=channels["ready"],
        keeper_qmp=channels["keeper"],
        desktop_ports=channels["ports"],
        denied=channels["denied"],
        docker_port=record.docker_port,
        ssh_port=record.ssh_port,
        mtu=this.settings.mtu,
        credentials=this.credentials.smbios,
        shares=[(server.share.tag, server.socket) for server in servers],
        enlightened=this.settings.emulate_hyperv,
        tpm=tpm.socket if tpm is not None else None,
        channel_keys=this.instance.channel_keys if channels["qmp"].address.keys else None,
    )


def _swtpm(this: Launch) -> tuple[str, ...]:
    return this.disk.swtpm if this.disk is not None else ()


def _content(this: Launch) -> dict[str, Any]:
    """The parts of a machine's specification that say what is booted."""
    image = this.image
    if this.disk is not None:
        firmware = this.disk.begin(this.instance.firmware_variables)
        disk = {"root": this.disk.path, "root_format": this.disk.format, "firmware": firmware}
        return {"kernel": image.kernel, "kernel_words": (), **disk}
    words = [*image.cmdline, *(image.verity.direct_words if image.verity is not None else ())]
    return {"kernel": image.kernel, "kernel_words": words, "root": image.root, "hashes": image.hashes}
