"""The files that people boot, each made from an image: one for each format."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cofferdam.cache import Stage, digest, file_digest
from cofferdam.errors import BuildError
from cofferdam.image.model import SSH_HOST_KEY, SSH_KEY, Image
from cofferdam.progress import Progress

FORMATS = ("direct",)
_VERSION = 1
"""To be raised when this module makes them in another way."""


@dataclass(frozen=True)
class Artefact:
    """A file that can be booted: where it is, its format, and the hash of its verified root if it has one."""

    path: Path
    format: str
    root_hash: str | None = None


def make_artefact(image: Image, format: str, progress: Progress, *, signer: Any = None) -> Artefact:
    """Make a file to boot from an image, or find it in the cache.

    Args:
        image: the image.
        format: one of FORMATS.
        progress: where to report.
        signer: who signs the kernel; `direct` has nothing to sign.

    Raises:
        BuildError: there is no such format.
    """
    if format not in FORMATS:
        raise BuildError(f"there is no format `{format}`", hint=f"There are: {', '.join(FORMATS)}.")
    stage = Stage("artefact", digest({"manifest": file_digest(image.manifest), "format": format, "version": _VERSION}))

    def make(work: Path, _: Path) -> None:
        with tarfile.open(work / "direct.tar", "w", format=tarfile.PAX_FORMAT) as sink:
            for path in sorted(image.directory.iterdir()):
                if path.name in (SSH_KEY, SSH_HOST_KEY):
                    continue
                entry = tarfile.TarInfo(path.name)
                entry.size, entry.mode = path.stat().st_size, 0o644
                with open(path, "rb") as source:
                    sink.addfile(entry, source)

    return Artefact(stage.build(make, progress, f"{image.profile} {format}") / "direct.tar", format)
