"""What a boot judges and chooses before it touches its instance, so that what cannot work stops and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cofferdam.errors import HostError
from cofferdam.guestconfig import Policy
from cofferdam.machine import accel
from cofferdam.machine.facts import HostFacts, host_system, probe_host
from cofferdam.machine.firmware import BootDisk, boot_disk
from cofferdam.machine.handover import Handover, handover
from cofferdam.machine.hosts import choice as hosts
from cofferdam.machine.instance import PolicyFacts
from cofferdam.machine.launch import BootImage
from cofferdam.machine.ports.socketplace import check_place
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.shares.choice import Choice, choose
from cofferdam.machine.shares.program import virtiofsd
from cofferdam.policy import PolicyFile, boot_policy, joined, read_policy
from cofferdam.progress import Progress


@dataclass(frozen=True)
class Prepared:
    """A boot that can begin.

    Attributes:
        settings: what was asked for.
        image: what is booted.
        policy: which one will hold.
        handover: what the guest is given beside its keys.
        choice: the directories that will be shared.
        virtiofsd: the words that start the server of one; none when nothing is shared.
        facts: what this machine has.
        plan: the accelerators to try.
        disk: what is booted by firmware; none when QEMU boots the image's kernel.
        notes: what to tell.
    """

    settings: BootSettings
    image: BootImage
    policy: PolicyFacts
    handover: Handover
    choice: Choice
    virtiofsd: tuple[str, ...]
    facts: HostFacts
    plan: accel.Plan
    notes: tuple[str, ...]
    disk: BootDisk | None = None


def prepare(settings: BootSettings, image: BootImage, progress: Progress) -> Prepared:
    """Everything about a boot that does not depend on the state of its instance.

    Raises:
        HostError: QEMU, the wanted accelerator, or a server of shared directories that were asked for is not usable.
        BuildError: the disk that is to be booted cannot be made.
        UsageError: the policy has errors, or a share, a file, an address or the socket's place cannot be used.
    """
    way = hosts.choose(settings, host_system())
    given = boot_policy(settings.policy) if settings.policy else None
    held, notes = _held_policy(image, given)
    more = handover(settings, given)
    choice, server = _sharing(settings, choose(settings.shares, held), progress)
    if settings.socket:
        check_place(settings.socket)
    facts = probe_host()
    disk = boot_disk(settings, image, progress)
    return Prepared(
        settings=settings,
        image=image,
        policy=PolicyFacts(file=str(Path(given.name).absolute()) if given else None, sha256=held.sha256 if held else None),
        handover=more,
        choice=choice,
        virtiofsd=server,
        facts=facts,
        plan=accel.plan(way.accel, accel.candidates(facts), way.option),
        notes=(*notes, *choice.notes, *([disk.note()] if disk is not None else ())),
        disk=disk,
    )


def _held_policy(image: BootImage, given: PolicyFile | None) -> tuple[Policy | None, list[str]]:
    """The policy that will hold, known only of images that keep a copy of theirs, and what to tell about it."""
    notes = given.lines("warning") if given else []
    if image.policy is None:
        return None, notes
    result = joined(read_policy(image.policy).require_good(), given)
    return result.policy, [*notes, *result.notes]


def _sharing(settings: BootSettings, choice: Choice, progress: Progress) -> tuple[Choice, tuple[str, ...]]:
    """The choice and the words that start virtiofsd; where there is none, only what was asked for is an error."""
    if not choice.shares:
        return choice, ()
    try:
        return choice, tuple(virtiofsd(progress))
    except HostError as error:
        if settings.shares is not None:
            raise
        return Choice(notes=(*choice.notes, f"no directory is shared: {error}")), ()
