"""Boots what is released as a user would, and runs a container in it whose ids have to prove that it is isolated."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cofferdam.cache import digest
from cofferdam.demo import demonstrate
from cofferdam.errors import BootError, InstanceError
from cofferdam.image.model import Image, Manifest, open_image
from cofferdam.machine import api
from cofferdam.machine import boot as booting
from cofferdam.machine.door import Door
from cofferdam.machine.firmware import BootDisk
from cofferdam.machine.prepare import Prepared, prepare
from cofferdam.machine.report import BootReport
from cofferdam.machine.settings import BootSettings
from cofferdam.progress import Progress
from cofferdam.release.packing import unpacked_directory, unpacked_file
from cofferdam.tools.lock import Pinned
from cofferdam.tools.tree import ensure_image_tools

RANGE = 65536
"""As many ids as every container has."""

_ARCHIVE = ".tar"
_ORDERLY = ("guest", "button")
_TIMEOUT = 420.0
_SMALL = {"memory": "1G", "data_disk": "2G"}


class BootProof(BaseModel):
    """What a boot of an artefact showed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accelerator: str
    kernel: str
    seconds: float
    uid_map: str


@dataclass(frozen=True)
class Way:
    """What boots a disk: the lock of the tools tree that has the firmware, and whose signature that wants, if any."""

    pinned: Pinned | None = None
    certificate: Path | None = None


def boot_test(artefact: Path, described: Image, way: Way, busybox: Path, progress: Progress) -> BootProof:
    """Boot an artefact on an instance of its own, run a privileged container, stop and remove the instance.

    Args:
        artefact: the file as it is released.
        described: the image that it was made from; what it says of itself is enough.
        way: what boots a disk.
        busybox: static program that the container is made of.
        progress: where to report.

    Raises:
        BootError: it does not boot, boots another kernel, or the container is not isolated.
        BuildError: it cannot be unpacked.
    """
    # The same at each try: what a run that was killed left behind is found and goes.
    name = f"release-{digest(str(artefact))[:12]}"
    _remove(name)
    with tempfile.TemporaryDirectory(prefix="cofferdam-boot-test-") as directory:
        # What runs without the user's rights has to read it.
        Path(directory).chmod(0o755)
        settings = BootSettings(
            name=name, profile=described.profile, activate=False, shares=(), proxy="none", timeout=_TIMEOUT, **_SMALL
        )
        try:
            report = booting.boot(prepared(artefact, described, settings, way, Path(directory), progress), progress)
            mapped = demonstrate(Door(report.docker_host, report.cert_path), busybox)
            kernel = Manifest.model_validate_json(described.manifest.read_bytes()).kernel.version
            return judged(report, mapped, kernel, api.stop(name).how)
        finally:
            _remove(name)


def _remove(name: str) -> None:
    # What failed before must not be hidden by an instance that is gone already.
    with contextlib.suppress(InstanceError):
        api.stop(name, force=True)
    with contextlib.suppress(InstanceError):
        api.remove(name)


def prepared(artefact: Path, described: Image, settings: BootSettings, way: Way, directory: Path, progress: Progress) -> Prepared:
    """A boot of what is in an artefact, unpacked into a directory: of an image in an archive, or of a disk.

    Raises:
        BuildError: it cannot be unpacked, or there are no tools that boot it.
    """
    plain = unpacked_file(artefact, directory)
    if plain.suffix == _ARCHIVE:
        return prepare(settings, open_image(unpacked_directory(plain, directory)), progress)
    tools, certificate = ensure_image_tools(progress, way.pinned), way.certificate
    disk = BootDisk(plain, plain.suffix.removeprefix("."), tools, certificate)
    return replace(prepare(settings, described, progress), disk=disk)


def judged(report: BootReport, mapped: str, kernel: str, stopped: str) -> BootProof:
    """The proof that a boot, a container's `/proc/self/uid_map` and the way it stopped are.

    Raises:
        BootError: they are none.
    """
    if report.kernel != kernel:
        raise BootError(f"it boots the kernel {report.kernel}, not {kernel}", hint="Build it again: `inv build-vm`.")
    if not isolated(mapped):
        raise BootError(f"a container is not isolated: its uid_map is `{mapped.strip()}`", hint="This must not be released.")
    if stopped not in _ORDERLY:
        raise BootError("it did not power itself off, and was ended", hint="See `inv logs` of an instance of it.")
    return BootProof(
        accelerator=report.accelerator,
        kernel=report.kernel,
        seconds=round(report.seconds["docker"], 1),
        uid_map=" ".join(mapped.split()),
    )


def isolated(mapped: str) -> bool:
    """Whether a container's `uid_map` is one range of its own, above all of the VM's own ids."""
    try:
        rows = [[int(word) for word in line.split()] for line in mapped.strip().splitlines()]
    except ValueError:
        return False
    return len(rows) == 1 and len(rows[0]) == 3 and rows[0][0] == 0 and rows[0][1] >= RANGE and rows[0][2] == RANGE
