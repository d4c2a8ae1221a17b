"""The life of a machine of Hyper-V: booted, looked at, stopped, by scripts that are written beside its disks."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cofferdam.errors import BootError, CofferdamError, InstanceError, UsageError
from cofferdam.machine import context
from cofferdam.machine.boot import refuse_running
from cofferdam.machine.credentials import Credentials, ensure_credentials
from cofferdam.machine.disk import DEFAULT_SIZE
from cofferdam.machine.dockerping import ping
from cofferdam.machine.handover import handover
from cofferdam.machine.hostos import private_directory, write_json, write_private
from cofferdam.machine.hyperv.facts import NativeFacts, read_facts, require
from cofferdam.machine.hyperv.handoverdisk import content, fixed_vhd
from cofferdam.machine.hyperv.image import find_vhdx
from cofferdam.machine.hyperv.scripts import Machine, boot_script, network_script, probe_script, state_script, stop_script
from cofferdam.machine.hyperv.shell import Shell, powershell, write_script
from cofferdam.machine.instance import Instance, instances
from cofferdam.machine.report import BootReport
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.stop import StopReport
from cofferdam.machine.stored import completed, remember, take_again
from cofferdam.policy import boot_policy
from cofferdam.progress import Progress

ADDRESS, PORT = "10.0.2.15", 2376
"""Where the guest listens: part of the image."""

_SLICE = 10.0
_ALIVE = ("Running", "Starting")

# What only a machine of QEMU has: setting, option, why not here.
_ONLY_QEMU = {
    "shares": ("--share", "directories can only be shared from Linux"),
    "socket": ("--socket", "the keeper that serves it talks to QEMU"),
    "docker_port": ("--docker-port", f"Docker is at {ADDRESS}:{PORT}"),
    "ssh_port": ("--ssh-port", f"ssh is at {ADDRESS}:22"),
    "publish": ("--publish", f"published ports are those of {ADDRESS}"),
    "format": ("--format", "Hyper-V boots the VHDX"),
    "secure_boot": ("--secure-boot", "Hyper-V's firmware takes no keys"),
}


class NativeRecord(BaseModel):
    """What is known of an instance that Hyper-V runs."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    profile: str
    image: Path
    cpus: int
    memory: int
    data_disk: int
    started: str
    docker_config: str | None = None


@dataclass(frozen=True)
class Tools:
    """What reaches outside; a test has other ones.

    Attributes:
        shell: runs scripts.
        ping: asks the Docker API at a port for so many seconds; it raises BootError when there is no answer.
    """

    shell: Shell = powershell
    ping: Callable[[int, Path, float, str], str] = ping


def machine(instance: Instance, record: NativeRecord) -> Machine:
    """The machine of an instance."""
    name, mark = f"cofferdam-{instance.name}", f"Cofferdam instance {instance.directory}"
    sizes = {"cpus": record.cpus, "memory": record.memory, "data_disk": record.data_disk}
    return Machine(name=name, mark=mark, image=record.image, folder=instance.hyperv_directory, **sizes)


def read_record(instance: Instance) -> NativeRecord | None:
    """The record of an instance that Hyper-V runs; none of another.

    Raises:
        InstanceError: it is damaged.
    """
    try:
        return NativeRecord.model_validate_json(instance.hyperv.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        hint = "Remove the machine with Hyper-V Manager, then that file."
        raise InstanceError(f"{instance.hyperv} is damaged", hint=hint) from error


def boot(settings: BootSettings, progress: Progress, tools: Tools | None = None) -> BootReport:
    """Boot an instance as a machine of Hyper-V and wait until its Docker answers.

    Raises:
        HostError: the host lacks something; the hint is the exact command.
        UsageError: an option that only QEMU's machines have, or no VHDX.
        InstanceError: the instance runs, or another one does, at the one address there is.
        BootError: the guest did not get ready; the machine has been removed.
    """
    tools = tools or Tools()
    for key, (option, why) in _ONLY_QEMU.items():
        if key in settings.model_fields_set and getattr(settings, key) not in (None, ()):
            raise UsageError(f"{option} and --native: {why}", hint="Leave it out, or boot without --native.")
    more = handover(settings, boot_policy(settings.policy) if settings.policy else None)
    image, instance = find_vhdx(settings), Instance(settings.name)
    refuse_running(instance, instance.state())
    with instance.claim("boot"):
        refuse_running(instance, instance.settled_state())
        _refuse_second(instance, tools)
        notes = take_again(instance)
        folder = private_directory(instance.hyperv_directory)
        write_script(folder / "network.ps1", network_script())
        facts = read_facts(tools.shell(folder / "probe.ps1", probe_script()))
        require(facts, str(folder / "network.ps1"))
        whole = completed(instance, settings)
        record = NativeRecord(
            profile=whole.profile,
            image=image,
            cpus=whole.cpus,
            memory=whole.memory,
            data_disk=whole.data_disk or DEFAULT_SIZE,
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        credentials = more.write(ensure_credentials(instance.credentials, instance.name))
        this = _Boot(instance, record, credentials, facts, tools)
        with progress.stage("boot", f"{instance.name} with Hyper-V"):
            seconds = this.run(whole.timeout)
        remember(instance, settings)
        return this.report(seconds, [*notes, *this.notes()])


def _refuse_second(instance: Instance, tools: Tools) -> None:
    """One address, one machine; this one's own leftovers are the boot script's business."""
    for other in instances():
        running = state(other, tools)
        if running in _ALIVE:
            hint = f"Stop it first: `inv stop{other.option}`. Without --native several run side by side."
            raise InstanceError(
                f"instance `{other.name}` already runs on Hyper-V, where all have the address {ADDRESS}", hint=hint
            )


@dataclass(frozen=True)
class _Boot:
    """One boot, from its script to its report."""

    instance: Instance
    record: NativeRecord
    credentials: Credentials
    facts: NativeFacts
    tools: Tools

    def notes(self) -> list[str]:
        """What the user should know."""
        lost = "no directory is shared, and `inv denied` and `inv logs` show nothing: those channels are QEMU's"
        found = [lost, f"published ports are on {ADDRESS}, for this machine only"]
        return (
            found if self.facts.usable_resolvers else [*found, "this host tells no name server: names do not resolve in the VM"]
        )

    def run(self, timeout: float) -> float:
        """Start it and wait; the seconds it took. Failed or interrupted, nothing of it is left but its data disk."""
        this, start = machine(self.instance, self.record), time.monotonic()
        strings = [path.read_bytes() for path in self.credentials.smbios]
        disk = fixed_vhd(content(strings, self.facts.usable_resolvers), secrets.token_bytes(16))
        try:
            write_json(self.instance.hyperv, self.record.model_dump(mode="json"))
            write_private(Path(this.handover), disk)
            self.tools.shell(self.instance.hyperv_directory / "boot.ps1", boot_script(this))
            self._await_docker(start + timeout)
        except BaseException:
            _remove(self.instance, this, self.tools, force=True)
            raise
        return time.monotonic() - start

    def _await_docker(self, deadline: float) -> None:
        while True:
            left = deadline - time.monotonic()
            try:
                self.tools.ping(PORT, self.credentials.client, max(1.0, min(_SLICE, left)), ADDRESS)
                return
            except BootError as error:
                if (now := state(self.instance, self.tools)) not in _ALIVE:
                    message = f"the machine ended before Docker was ready; Hyper-V says: {now or 'gone'}"
                    raise BootError(message, hint=_CONSOLE) from error
                if left <= 0:
                    raise BootError(f"Docker does not answer at {ADDRESS}:{PORT}: {error}", hint=_CONSOLE) from error

    def report(self, seconds: float, notes: list[str]) -> BootReport:
        """Make the docker context, which does not become the current one, and tell."""
        host, client = f"tcp://{ADDRESS}:{PORT}", self.credentials.client
        made = context.instance_context(self.instance.name, self.instance.directory)
        name: str | None = made.name
        write_json(
            self.instance.hyperv, self.record.model_copy(update={"docker_config": str(made.config)}).model_dump(mode="json")
        )
        try:
            context.create(made, host, client)
        except (context.ContextTaken, OSError) as error:
            name, notes = None, [*notes, f"no docker context: {error}"]
        return BootReport(
            instance=self.instance.name,
            profile=self.record.profile,
            accelerator="hyperv",
            why="asked for; Hyper-V itself runs the machine",
            kernel="",
            seconds={"docker": round(seconds, 2)},
            uptime={},
            docker_host=host,
            cert_path=client,
            context=name,
            notes=tuple(notes),
        )


_CONSOLE = r"Watch its console, \\.\pipe\cofferdam-NAME, while it boots again (docs/hyperv.md)."


def state(instance: Instance, tools: Tools | None = None) -> str:
    """The state of an instance's machine as Hyper-V names it; empty when Hyper-V runs none for it."""
    record = read_record(instance)
    if record is None:
        return ""
    script = instance.hyperv_directory / "state.ps1"
    return (tools or Tools()).shell(script, state_script(machine(instance, record))).strip()


def stop(instance: Instance, *, force: bool = False, tools: Tools | None = None) -> StopReport:
    """Stop the machine of an instance and remove all of it but its data disk.

    Raises:
        InstanceError: Hyper-V runs none for it.
        BootError: Hyper-V refuses.
    """
    record, start = read_record(instance), time.monotonic()
    if record is None:
        raise InstanceError(f"instance `{instance.name}` is not one of Hyper-V's", hint=f"`inv status{instance.option}`")
    with instance.claim("stop"):
        ran = state(instance, tools) in _ALIVE
        removed = _remove(instance, machine(instance, record), tools or Tools(), force=force)
    how = "not running" if not ran else "killed" if force else "guest"
    return StopReport(instance.name, how, time.monotonic() - start, context=removed)


def _remove(instance: Instance, this: Machine, tools: Tools, *, force: bool) -> str | None:
    """The machine, its passing disks, its context and its record; the context's name, if there was one."""
    tools.shell(instance.hyperv_directory / "stop.ps1", stop_script(this, force=force))
    record, removed = read_record(instance), None
    if record is not None and record.docker_config:
        found = context.remove(context.instance_context(instance.name, instance.directory, Path(record.docker_config)))
        removed = found.name if found is not None else None
    instance.hyperv.unlink(missing_ok=True)
    return removed


def describe(instance: Instance, tools: Tools | None = None) -> dict[str, object] | None:
    """The row of `inv status` for an instance that Hyper-V runs; none for another."""
    record = read_record(instance)
    if record is None:
        return None
    row: dict[str, object] = {"name": instance.name, "directory": str(instance.directory), "profile": record.profile}
    row |= {"accelerator": "hyperv", "cpus": record.cpus, "memory": record.memory, "started": record.started}
    try:
        found = state(instance, tools)
    except CofferdamError as error:
        return {**row, "state": "unknown", "note": str(error)}
    if found not in _ALIVE:
        hint = f"its machine is {found.lower() or 'gone'}; `inv stop{instance.option}` tidies up, the data disk is kept"
        return {**row, "state": "stale", "note": hint}
    return {
        **row,
        "state": "running",
        "docker_host": f"tcp://{ADDRESS}:{PORT}",
        "cert_path": str(instance.credentials / "client"),
    }
