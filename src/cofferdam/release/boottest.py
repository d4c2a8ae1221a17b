"""Boots what is released as a user would, and runs a container in it whose ids have to prove that it is isolated."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cofferdam.demo import demonstrate
from cofferdam.errors import BootError, InstanceError
from cofferdam.image.model import open_image
from cofferdam.machine import api
from cofferdam.machine.door import Door
from cofferdam.machine.launch import BootImage
from cofferdam.machine.report import BootReport
from cofferdam.machine.settings import BootSettings
from cofferdam.progress import Progress
from cofferdam.release.packing import unpacked_directory, unpacked_file

RANGE = 65536
"""As many ids as every container has."""

_TIMEOUT = 420.0
_SMALL = {"memory": 1024, "data_disk": 2 * 2**30}


class BootProof(BaseModel):
    """What a boot of an artefact showed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accelerator: str
    kernel: str
    seconds: float
    uid_map: str


def boot_test(artefact: Path, profile: str, kernel: str, busybox: Path, progress: Progress) -> BootProof:
    """Boot an artefact on an instance of its own, run a privileged container, stop and remove the instance.

    Args:
        artefact: the file as it is released.
        profile: what it was made from.
        kernel: what has to come up.
        busybox: static program that the container is made of.
        progress: where to report.

    Raises:
        BootError: it does not boot, boots another kernel, or the container is not isolated.
        BuildError: it cannot be unpacked.
    """
    name = f"release-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="cofferdam-boot-test-") as directory:
        # What runs without the user's rights has to read it.
        Path(directory).chmod(0o755)
        image, disk = bootable(artefact, Path(directory))
        settings = BootSettings(
            name=name, profile=profile, image=disk, activate=False, shares=(), proxy="none", timeout=_TIMEOUT, **_SMALL
        )
        try:
            report = api.boot(settings, progress, image)
            mapped = demonstrate(Door(report.docker_host, report.cert_path), busybox)
            proof = judged(report, mapped, kernel)
        finally:
            # What failed before must not be hidden by an instance that is gone already.
            for end in (api.stop, api.remove):
                with contextlib.suppress(InstanceError):
                    end(name)
    return proof


def bootable(artefact: Path, directory: Path) -> tuple[BootImage | None, Path | None]:
    """What is booted: the image in an archive, or a disk."""
    plain = unpacked_file(artefact, directory)
    if tarfile.is_tarfile(plain):
        return open_image(unpacked_directory(plain, directory)), None
    return None, plain


def judged(report: BootReport, mapped: str, kernel: str) -> BootProof:
    """The proof that a boot and a container's `/proc/self/uid_map` are.

    Raises:
        BootError: they are none.
    """
    if report.kernel != kernel:
        raise BootError(f"it boots the kernel {report.kernel}, not {kernel}", hint="Build it again: `inv build-vm`.")
    if not isolated(mapped):
        raise BootError(f"a container is not isolated: its uid_map is `{mapped.strip()}`", hint="This must not be released.")
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
