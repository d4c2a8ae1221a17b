"""The manifest of a release folder: which artefacts there are, of which version and commit, and how files are named."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MANIFEST, PROVENANCE, SUMS, SIGNATURE = "manifest.json", "provenance.intoto.json", "SHA256SUMS", "SHA256SUMS.sig"
NOTES = "NOTES.md"
"""The release notes; the manifest has their checksum when there are some."""

PACKAGES = "packages"
"""Directory of the package files that the release was made from; a release need not have it."""

Format = Literal["direct", "raw", "qcow2", "vhdx"]
SUFFIXES: dict[str, str] = {"direct": "-direct.tar", "raw": ".raw.zst", "qcow2": ".qcow2", "vhdx": ".vhdx"}
"""What follows `cofferdam-VERSION-PROFILE` in an artefact's name, by its format; .zst at the end says that it is compressed."""

CONTAINER_DISKS = ("qcow2", "raw")
"""Formats that KubeVirt boots from, the best one first."""

SBOM_SUFFIXES = {"cyclonedx": ".cdx.json", "spdx": ".spdx.json"}

_WORD = r"[A-Za-z0-9][A-Za-z0-9._+~-]*"
Word = Annotated[str, StringConstraints(pattern=rf"^{_WORD}$", max_length=200)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Artefact(_Model):
    """A file that people boot: its kernel's release, and the hash of its verified root if it has one."""

    name: Word
    profile: Word
    format: Format
    size: int = Field(ge=0)
    sha256: Sha256
    kernel: str
    root_hash: str | None = None


class Sbom(_Model):
    """A bill of materials of a profile's image."""

    name: Word
    profile: Word
    format: Literal["cyclonedx", "spdx"]
    sha256: Sha256


class ReleaseManifest(_Model):
    """Everything in a release but the packages it was made from, the provenance and the sums."""

    format: Literal[1] = 1
    version: Word
    commit: Commit
    artefacts: list[Artefact] = Field(min_length=1)
    sboms: list[Sbom]
    notes: Sha256 | None = None

    def files(self) -> dict[str, str]:
        """Checksums of the files that it names."""
        notes = {NOTES: self.notes} if self.notes else {}
        return {each.name: each.sha256 for each in self.artefacts} | {each.name: each.sha256 for each in self.sboms} | notes

    def misnamed(self) -> list[str]:
        """Names that are not those which version, profile and format give, and names that stand there twice."""
        rows = [(each.name, artefact_name(self.version, each.profile, each.format)) for each in self.artefacts]
        rows += [(each.name, sbom_name(self.version, each.profile, each.format)) for each in self.sboms]
        names = [name for name, _ in rows]
        return sorted({name for name, right in rows if name != right or names.count(name) > 1})


def artefact_name(version: str, profile: str, kind: str) -> str:
    """Name of an artefact's file."""
    return f"cofferdam-{version}-{profile}{SUFFIXES[kind]}"


def sbom_name(version: str, profile: str, kind: str) -> str:
    """Name of a bill of materials."""
    return f"cofferdam-{version}-{profile}{SBOM_SUFFIXES[kind]}"


def is_word(text: str) -> bool:
    """Whether a text may be part of a file's name."""
    return re.fullmatch(_WORD, text) is not None
