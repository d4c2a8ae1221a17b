"""Instances: one directory each, and a state that is read off the live process, never believed from a file.

`life.lock` is inherited by QEMU and so is held exactly as long as it lives; `claim.lock` is held by the command that is changing
the instance. Together with the record of the last boot they give the state, whatever was killed in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cofferdam.errors import InstanceError, UsageError
from cofferdam.machine.channels import LOOPBACK, Address, connect
from cofferdam.machine.hostos import WINDOWS, FileLock, end_process, private_directory, process_start, wait_until, write_json
from cofferdam.machine.imageref import ImageRef
from cofferdam.machine.qmp import Monitor
from cofferdam.machine.settings import INSTANCE_NAME, Accelerator
from cofferdam.paths import runtime_dir, state_home

# QEMU's channels: monitor and readiness for the commands; another monitor the guest's questions and refusals for the keeper.
SOCKETS = ("qmp", "ready", "keeper", "ports", "denied")


class State(StrEnum):
    """What an instance is."""

    ABSENT = "absent"  # never booted
    STOPPED = "stopped"  # no process, nothing left over
    DELETED = "deleted"  # removed but for its data disk and snapshots
    STALE = "stale"  # no process, but the last one ended without `stop`; recovered by the next command
    STARTING = "starting"  # a command is booting it
    RUNNING = "running"  # QEMU runs the guest, which was ready
    PAUSED = "paused"  # QEMU holds the guest: paused, or the host's disk is full
    STOPPING = "stopping"  # a command is stopping it
    UNFINISHED = "unfinished"  # QEMU runs, but the command that booted it was killed


class PolicyFacts(BaseModel):
    """The policy of a boot: the file handed over, if any, and the hash of what holds in the guest, where the image's is known."""

    file: str | None
    sha256: str | None


class ServedShare(BaseModel):
    """A shared directory and the process that serves it."""

    path: str
    read_only: bool
    pid: int
    process_start: str | None


class ServedTpm(BaseModel):
    """The process of a machine's TPM."""

    pid: int
    process_start: str | None


class Record(BaseModel):
    """What is known of the latest boot; its fields describe, they do not decide."""

    model_config = ConfigDict(extra="ignore")

    profile: str
    accelerator: Accelerator
    why: str = ""
    cpus: int
    memory: int
    docker_port: int
    ssh_port: int | None = None
    ssh_key: str | None = None
    qmp: str = ""
    ready_port: str = ""
    keeper_qmp: str = ""
    desktop_ports: str = ""
    denied_port: str = ""
    publish: str = LOOPBACK
    socket: str = Field(default="", description="Docker's socket on the desktop; empty for none")
    pid: int | None = None
    process_start: str | None = None
    started: str = Field(default="", description="UTC, ISO 8601")
    policy: PolicyFacts | None = None
    image: ImageRef | None = None
    shares: list[ServedShare] = Field(default_factory=list)
    tpm: ServedTpm | None = None
    ready: bool = False
    seconds: dict[str, float] = Field(default_factory=dict)
    kernel: str = ""
    docker_config: str | None = Field(default=None, description="where this boot made a docker context")
    former_contexts: list[str] = Field(default_factory=list, description="docker contexts that were current before, latest first")

    @property
    def helpers(self) -> list[tuple[int, str | None]]:
        """The processes beside QEMU that end with it: pid and start."""
        found = [(share.pid, share.process_start) for share in self.shares]
        return [*found, (self.tpm.pid, self.tpm.process_start)] if self.tpm is not None else found


class Instance:
    """One named virtual machine and its files (directory 0700, files 0600)."""

    def __init__(self, name: str, home: Path | None = None) -> None:
        check_name(name)
        self.name = name
        self.directory = (home or state_home()) / "instances" / name
        self.life = FileLock(self.directory / "life.lock")
        self.claim_lock = FileLock(self.directory / "claim.lock")
        self.keeper_lock = FileLock(self.directory / "ports.lock")
        self.keeper_start = FileLock(self.directory / "keeper-start.lock")
        self.keeper_log = self.directory / "keeper.log"
        self.published = self.directory / "published.json"
        self.shares_log = self.directory / "shares.log"
        self.tpm_state = self.directory / "tpm"
        self.tpm_log = self.directory / "tpm.log"
        self.recovery_key = self.directory / "recovery.key"
        self.denied = self.directory / "denied.jsonl"
        self.console = self.directory / "console.log"
        self.qemu_log = self.directory / "qemu.log"
        self.pidfile = self.directory / "qemu.pid"
        self.data_disk = self.directory / "data.raw"
        self.firmware_variables = self.directory / "firmware.fd"
        self.hyperv = self.directory / "hyperv.json"
        self.hyperv_directory = self.directory / "hyperv"
        self.credentials = self.directory / "credentials"
        self.channel_keys = self.credentials / "channels"
        self.deleted_mark = self.directory / "deleted"
        self.known_hosts = self.directory / "known_hosts"
        self._record = self.directory / "boot.json"
        self._ports = self.directory / "ports.json"
        self._stop_wish = self.directory / "stop.wish"

    @property
    def option(self) -> str:
        """What names this instance on a command line; nothing for the default one."""
        return "" if self.name == "default" else f" --name {self.name}"

    def socket(self, kind: str) -> Path:
        """Path of a Unix socket of this instance: short, since `sun_path` is, and different for different state homes."""
        identity = hashlib.sha256(str(self.directory).encode()).hexdigest()[:12]
        return runtime_dir() / f"{identity}.{kind}"

    def create(self) -> None:
        """Make the instance's directory."""
        private_directory(self.directory)

    @property
    def record(self) -> Record | None:
        """The latest boot's record; none when there is none, or it cannot be read."""
        try:
            return Record.model_validate(json.loads(self._record.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, ValidationError):
            return None

    def write_record(self, record: Record) -> None:
        """Replace the record."""
        write_json(self._record, record.model_dump())

    @property
    def last_ports(self) -> dict[str, int]:
        """Host ports of the latest boot: taken again when they are free, so that addresses stay the same."""
        try:
            value: Any = json.loads(self._ports.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return {key: port for key, port in value.items() if isinstance(port, int)} if isinstance(value, dict) else {}

    def write_ports(self, ports: dict[str, int]) -> None:
        """Remember the host ports."""
        write_json(self._ports, ports)

    @property
    def alive(self) -> bool:
        """Whether this instance's QEMU lives."""
        if WINDOWS:
            record = self.record
            return record is not None and record.pid is not None and process_start(record.pid) == record.process_start
        return self.life.held_by_another()

    @property
    def claimed(self) -> bool:
        """Whether a command is changing this instance."""
        return self.claim_lock.held_by_another()

    def state(self) -> State:
        """The state now."""
        if self.directory.is_dir() and self.claimed:
            record = self.record
            return State.STOPPING if record is not None and record.ready else State.STARTING
        return self.settled_state()

    def settled_state(self) -> State:
        """The state, were no command at work on it: for the command that holds the claim itself."""
        if not self.directory.is_dir():
            return State.ABSENT
        record = self.record
        if not self.alive:
            return State.DELETED if self.deleted_mark.exists() else State.STOPPED if record is None else State.STALE
        if record is None or not record.ready:
            return State.UNFINISHED
        run_state = self._run_state(record)
        return {"running": State.RUNNING, "gone": State.STALE}.get(run_state, State.PAUSED)

    def _run_state(self, record: Record) -> str:
        try:
            with Monitor(Address.from_text(record.qmp), timeout=5) as monitor:
                return monitor.status()
        except InstanceError:
            # QEMU serves one monitor connection at a time; another command may have it. The process itself is alive.
            return "running" if self.alive else "gone"

    @contextmanager
    def claim(self, verb: str, timeout: float = 1.0) -> Iterator[None]:
        """Be the only command that changes this instance.

        Raises:
            InstanceError: another command is at it.
        """
        self.create()
        if not self.claim_lock.acquire(timeout):
            message = f"another command is starting or stopping instance `{self.name}`"
            raise InstanceError(message, hint=f"Wait for it, or see `inv status --name {self.name}`; then {verb} again.")
        with self.claim_lock.holding():
            if not self.claim_lock.current:
                raise InstanceError(f"instance `{self.name}` has just been removed", hint=f"Do it again to {verb} a new one.")
            yield

    def clear(self) -> None:
        """Remove what only a running instance has. The caller holds the claim and QEMU is gone."""
        record = self.record
        for pid, start in record.helpers if record is not None else ():
            # It ends with QEMU's connection, but it may not have come to one.
            end_process(pid, start, force=True)
        shares = self.socket("x").parent.glob(self.socket("share*").name)
        for path in (self._record, self.pidfile, self.published, *map(self.socket, (*SOCKETS, "tpm")), *shares):
            path.unlink(missing_ok=True)

    @property
    def stop_wanted(self) -> bool:
        """Whether `stop` has asked the command that is booting to give up."""
        return self._stop_wish.exists()

    def want_stop(self, wanted: bool) -> None:
        """Leave a note for the command that is booting, or take it away."""
        if wanted:
            self._stop_wish.touch(mode=0o600)
        else:
            self._stop_wish.unlink(missing_ok=True)

    def qemu_process(self) -> tuple[int, str | None] | None:
        """Pid and start of the living QEMU: its own pid file is right while the life lock is held."""
        record = self.record
        if record is not None and record.pid is not None:
            return record.pid, record.process_start
        try:
            pid = int(self.pidfile.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid, process_start(pid)

    def kill(self, timeout: float = 10.0) -> None:
        """End QEMU at once: by its monitor, then by signals.

        Raises:
            InstanceError: it lives on.
        """
        try:
            with Monitor(self._monitor_address(), timeout=3) as monitor:
                monitor.quit()
        except InstanceError:
            self._signal(force=False)
        if self.wait_gone(timeout / 2):
            return
        self._signal(force=True)
        if not self.wait_gone(timeout / 2):
            raise InstanceError(f"QEMU of instance `{self.name}` does not end", hint=f"See {self.qemu_log}.")

    def _monitor_address(self) -> Address:
        record = self.record
        # Without a record the boot was killed before it wrote one; the socket's place is known all the same.
        return Address.from_text(record.qmp) if record is not None and record.qmp else Address(path=str(self.socket("qmp")))

    def _signal(self, *, force: bool) -> None:
        found = self.qemu_process()
        if found is not None:
            end_process(*found, force=force)

    def wait_gone(self, timeout: float) -> bool:
        """Wait until QEMU has ended."""
        return wait_until(lambda: not self.alive, timeout)

    def send(self, line: bytes, timeout: float = 5.0) -> bool:
        """Send the guest's agent a line; false when nobody takes it."""
        record = self.record
        if record is None:
            return False
        try:
            with connect(Address.from_text(record.ready_port), timeout) as port:
                port.sendall(line)
                # The guest answers a new connection with its history: by then it has the port open and has our line.
                return bool(port.recv(1))
        except OSError:
            return False


def check_name(name: str) -> None:
    """Refuse a name that cannot be an instance's.

    Raises:
        UsageError: it cannot.
    """
    if not re.fullmatch(INSTANCE_NAME, name):
        raise UsageError(f"`{name}` cannot name an instance", hint="Use up to 32 lower-case letters, digits and inner hyphens.")


def instances(home: Path | None = None) -> list[Instance]:
    """All instances there are, by name."""
    base = (home or state_home()) / "instances"
    if not base.is_dir():
        return []
    names = sorted(path.name for path in base.iterdir() if path.is_dir() and re.fullmatch(INSTANCE_NAME, path.name))
    return [Instance(name, home) for name in names]


def remove_instance(instance: Instance) -> None:
    """Delete an instance's directory, its data disk included. The caller has stopped it."""
    instance.directory.rename(instance.directory.with_name(f".{instance.name}.{os.getpid()}"))
    remove_leftovers(instance)


def remove_leftovers(instance: Instance) -> bool:
    """Delete what a killed `remove` left of this instance; whether there was any."""
    found = list(instance.directory.parent.glob(f".{instance.name}.*"))
    for path in found:
        shutil.rmtree(path)
    return bool(found)
