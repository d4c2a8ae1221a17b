"""Booting: from settings and an image to a machine whose Docker answers, or to an error that says why not."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

from cofferdam.errors import BootError, InstanceError, UsageError
from cofferdam.guestconfig import seal
from cofferdam.machine import accel, activation, context
from cofferdam.machine.channels import free_port, port_is_free
from cofferdam.machine.console import hopeless, last_lines
from cofferdam.machine.credentials import SHARES_FILE, Credentials, ensure_credentials, handed_over
from cofferdam.machine.disk import ensure_data_disk
from cofferdam.machine.dockerping import ping
from cofferdam.machine.imageref import reference
from cofferdam.machine.instance import Instance, Record, State
from cofferdam.machine.kept import read_kept, write_kept
from cofferdam.machine.launch import Launch, PortTaken, reap, run_machine
from cofferdam.machine.ports.socketplace import remove_stale
from cofferdam.machine.ports.start import await_free, ensure_keeper, publish_notes, published
from cofferdam.machine.prepare import Prepared
from cofferdam.machine.ready import MachineEnded, NoHeartbeat, Timeline
from cofferdam.machine.report import BootReport
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.ssh import write_known_hosts
from cofferdam.machine.stored import completed, remember, take_again
from cofferdam.machine.tpm.sealing import key_to_hand_over, require_sealed
from cofferdam.progress import Progress


def boot(prepared: Prepared, progress: Progress, *, follow: bool = False) -> BootReport:
    """Boot an instance and wait until its Docker answers.

    Args:
        prepared: what to boot.
        progress: where to report.
        follow: from then on boot the latest image that is built of the profile.

    Raises:
        InstanceError: the instance runs already, or another command is at it, a port is in use, or a stored setting is damaged.
        UsageError: the data disk cannot have that size.
        BootError: the guest did not get ready; the machine has been stopped.
    """
    instance = Instance(prepared.settings.name)
    refuse_running(instance, instance.state())
    with instance.claim("boot"):
        refuse_running(instance, instance.settled_state())
        instance.want_stop(False)
        report = boot_claimed(instance, prepared, progress)
        write_kept(instance, read_kept(instance).after_boot(reference(prepared.image), follow=follow))
        return report


def boot_claimed(instance: Instance, prepared: Prepared, progress: Progress) -> BootReport:
    """The same for a command that holds the claim of an instance which does not run; which image it boots later is not changed.

    Raises:
        InstanceError, UsageError, BootError: as `boot`.
    """
    settings, image, more = prepared.settings, prepared.image, prepared.handover
    notes = [*recover(instance), *take_again(instance), *prepared.notes]
    if settings.socket:
        await_free(settings.socket, instance)
    whole = completed(instance, settings)
    recovery_key, said = key_to_hand_over(instance, settings)
    notes += said
    disk = ensure_data_disk(instance.data_disk, whole.data_disk)
    notes += ["the data disk has been grown"] if disk == "grown" else []
    credentials = more.write(ensure_credentials(instance.credentials, instance.name))
    credentials = handed_over(credentials, SHARES_FILE, prepared.choice.document())
    if image.ssh_known_hosts is not None:
        write_known_hosts(instance.known_hosts, image.ssh_known_hosts)
    credentials = handed_over(credentials, seal.CREDENTIAL, recovery_key)
    try:
        report = _attempts(_launch(prepared, whole, instance, credentials, progress), prepared.plan, notes)
    finally:
        handed_over(credentials, seal.CREDENTIAL, None)
    remember(instance, settings)
    return replace(report, proxy=more.proxies.shown)


def _launch(prepared: Prepared, whole: BootSettings, instance: Instance, credentials: Credentials, progress: Progress) -> Launch:
    return Launch(
        settings=whole,
        image=prepared.image,
        facts=prepared.facts,
        instance=instance,
        credentials=credentials,
        policy=prepared.policy,
        progress=progress,
        shares=prepared.choice.shares,
        virtiofsd=prepared.virtiofsd,
        disk=prepared.disk,
    )


def refuse_running(instance: Instance, state: State) -> None:
    """Raise for an instance that runs, or that another command is changing."""
    option = instance.option
    hint = f"`inv status{option}` shows it, `inv stop{option}` stops it; another one beside it: `inv boot --name OTHER`."
    if state in (State.RUNNING, State.PAUSED):
        raise InstanceError(f"instance `{instance.name}` is already {state}", hint=hint)
    if state in (State.STARTING, State.STOPPING):
        raise InstanceError(f"instance `{instance.name}` is {state}: another command is at it", hint=hint)


def recover(instance: Instance) -> list[str]:
    """Tidy up after whatever was killed; says what was found. The caller holds the claim."""
    state = instance.settled_state()
    if state not in (State.UNFINISHED, State.STALE):
        return []
    if state is State.UNFINISHED:
        instance.kill()
    forget(instance)
    if state is State.UNFINISHED:
        return ["the previous boot was killed half-way; its machine has been ended"]
    why = next((found for line in last_lines(instance.console) if (found := hopeless(line))), None)
    return ["the previous machine ended without `inv stop`; its data disk is kept" + (f"; {why}" if why else "")]


def forget(instance: Instance) -> context.Removed | None:
    """Remove what only a running instance has, its docker context included; which one that was, if there was one."""
    record = instance.record
    removed = None
    if record is not None and record.docker_config:
        made = context.instance_context(instance.name, instance.directory, Path(record.docker_config))
        removed = context.remove(made, record.former_contexts)
    if record is not None and record.socket:
        remove_stale(Path(record.socket))
    instance.clear()
    return removed


def _attempts(this: Launch, plan: accel.Plan, notes: list[str]) -> BootReport:
    why = plan.why
    for candidate, following in zip(plan.attempts, [*plan.attempts[1:], None], strict=True):
        try:
            return _with_free_ports(this, candidate, why, notes)
        except (NoHeartbeat, MachineEnded) as error:
            if this.instance.stop_wanted:
                raise BootError(f"instance `{this.instance.name}` was stopped while it booted", hint="Boot it again.") from error
            if following is None:
                raise
            why = f"{candidate.accelerator} was tried: {str(error).splitlines()[0]}"
            this.progress.line(f"{why}; starting again with {following.accelerator}")
    raise BootError("no accelerator was left to try", hint="See `inv doctor`.")


def _with_free_ports(this: Launch, candidate: accel.Candidate, why: str, notes: list[str]) -> BootReport:
    for _ in range(3):
        ports = _ports(this)
        try:
            return _attempt(this, candidate, why, notes, ports)
        except PortTaken:
            this.progress.line("a host port was taken meanwhile; trying others")
            this.instance.write_ports({})
    raise BootError("no host port could be had", hint="Give --docker-port a port that no other program uses.")


def _ports(this: Launch) -> dict[str, int]:
    """Choose host ports: the wanted, else those of the latest boot, else any free ones."""
    wanted = {"docker": this.settings.docker_port}
    if this.image.ssh_key is not None:
        wanted["ssh"] = this.settings.ssh_port
    if len(set(wanted.values()) - {None}) < len([port for port in wanted.values() if port is not None]):
        raise UsageError(f"--docker-port and --ssh-port are both {wanted['docker']}", hint="Give two, or leave them out.")
    last = this.instance.last_ports
    ports: dict[str, int] = {}
    for name, port in wanted.items():
        if port is not None and not port_is_free(port):
            hint = f"Give --{name}-port another, or leave it out for a free one."
            raise InstanceError(f"port {port} of this machine is in use", hint=hint)
        ports[name] = port or free_port(last.get(name), taken={*ports.values(), *(port for port in wanted.values() if port)})
    this.instance.write_ports(ports)
    return ports


def _attempt(this: Launch, candidate: accel.Candidate, why: str, notes: list[str], ports: dict[str, int]) -> BootReport:
    record = Record(
        profile=this.image.profile,
        accelerator=candidate.accelerator,
        why=why,
        cpus=this.settings.cpus,
        memory=this.settings.memory,
        docker_port=ports["docker"],
        ssh_port=ports.get("ssh"),
        publish=str(this.settings.publish),
        socket=str(this.settings.socket or ""),
        ssh_key=str(this.image.ssh_key) if this.image.ssh_key else None,
        image=reference(this.image),
        policy=this.policy,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    instance = this.instance
    try:
        with this.progress.stage("boot", f"{instance.name} with {candidate.accelerator}"):
            timeline = run_machine(this, record)
            ping(record.docker_port, this.credentials.client)
        require_sealed(instance, this.settings)
        return _finish(this, record, timeline, notes)
    except BaseException:
        # Failed or interrupted: no machine, context or record stays behind; disk, credentials and logs do.
        if instance.alive:
            instance.kill()
        reap()
        forget(instance)
        raise


def _finish(this: Launch, record: Record, timeline: Timeline, notes: list[str]) -> BootReport:
    instance, client = this.instance, this.credentials.client
    host = f"tcp://127.0.0.1:{record.docker_port}"
    record.ready, record.seconds, record.kernel = True, timeline.seconds, timeline.kernel
    reached = activation.make_context(instance, record, host, client, activate=this.settings.activate)
    notes = [*notes, *reached.notes, *ensure_keeper(instance), *publish_notes(this.settings.publish)]
    ports = published(instance)
    notes += ports.notes if ports.socket_problem else []
    return BootReport(
        instance=instance.name,
        profile=record.profile,
        image=record.image.words if record.image and record.image.installed else "",
        accelerator=record.accelerator,
        why=record.why,
        kernel=record.kernel,
        seconds=timeline.seconds,
        uptime=timeline.uptime,
        docker_host=host,
        cert_path=client,
        context=reached.context,
        current=reached.current,
        socket=ports.socket if not ports.socket_problem else "",
        ssh_port=record.ssh_port,
        shares=tuple(each.path + (":ro" if each.read_only else "") for each in record.shares),
        notes=tuple(notes),
    )
