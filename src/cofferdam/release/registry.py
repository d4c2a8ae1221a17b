"""Release folders in a registry: each file a blob with its name, as ORAS and others lay artefacts out; and the way back."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cofferdam.cache import file_digest
from cofferdam.errors import HostError, UsageError
from cofferdam.progress import Progress
from cofferdam.release.manifest import MANIFEST, PACKAGES, ReleaseManifest
from cofferdam.release.reference import Reference, parse_reference, version_tag
from cofferdam.release.registryclient import MANIFEST_TYPE, Client, RegistryError, digest_of
from cofferdam.release.sums import contents
from cofferdam.release.verify import trusted

RELEASE_TYPE = "application/vnd.cofferdam.release.v1"
FILE_TYPE = "application/vnd.cofferdam.release.file.v1"
_EMPTY_TYPE, _EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
_TITLE = "org.opencontainers.image.title"
_FILE_NAME = re.compile(rf"(?:{PACKAGES}/)?[A-Za-z0-9][A-Za-z0-9._+~%-]*")
_MOST_FILES = 2000


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Descriptor(_Model):
    """What a manifest says of a blob."""

    mediaType: str
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0)
    annotations: dict[str, str] = Field(default_factory=dict)


class OciManifest(_Model):
    """The manifest of an artefact or image."""

    schemaVersion: Literal[2]
    mediaType: Literal["application/vnd.oci.image.manifest.v1+json"] = "application/vnd.oci.image.manifest.v1+json"
    artifactType: str = ""
    config: Descriptor
    layers: list[Descriptor] = Field(max_length=_MOST_FILES)


@dataclass(frozen=True)
class Published:
    """What was published: where, by tag and by digest, and whether it was there already."""

    reference: Reference
    digest: str
    already: bool

    @property
    def pinned(self) -> Reference:
        """The reference that always means this and nothing else."""
        return self.reference.at(digest=self.digest)


@dataclass(frozen=True)
class Blob:
    """A file to be stored, with the kind and the annotations that the manifest gives it."""

    path: Path
    kind: str
    annotations: Mapping[str, str]

    def descriptor(self) -> dict[str, Any]:
        """What a manifest says of it."""
        found = {"mediaType": self.kind, "digest": f"sha256:{file_digest(self.path)}", "size": self.path.stat().st_size}
        return {**found, **({"annotations": dict(self.annotations)} if self.annotations else {})}


def publish_release(folder: Path, reference: str, progress: Progress, *, key: Path | None = None) -> Published:
    """Store a release folder in a registry, all of it or nothing that has a name.

    Args:
        folder: the release.
        reference: HOST/NAME with a tag or without; the version is the tag then.
        progress: where to report.
        key: allowed_signers file of who makes the releases; the project's own when not given.

    Raises:
        NotVerifiedError: the folder cannot be trusted.
        UsageError: no such reference, one with a digest, or another thing has the tag.
        RegistryError: the registry refuses.
    """
    manifest = trusted(folder, key)
    files = [Blob(folder / name, FILE_TYPE, {_TITLE: name}) for name in all_files(folder)]
    with tempfile.TemporaryDirectory(prefix="cofferdam-publish-") as name:
        config = Path(name, "config")
        config.write_bytes(_EMPTY)
        described = f"Cofferdam {manifest.version}: release folder"
        return publish(
            target(reference, version_tag(manifest.version)),
            Blob(config, _EMPTY_TYPE, {}),
            files,
            {**labels(manifest), "org.opencontainers.image.description": described},
            progress,
            kind=RELEASE_TYPE,
        )


def all_files(folder: Path) -> list[str]:
    """Every file of a release folder, the sums and their signature included."""
    return sorted({*contents(folder), *(path.name for path in folder.iterdir() if path.is_file())})


def labels(manifest: ReleaseManifest) -> dict[str, str]:
    """What annotations say of a release; nothing in them depends on when or where it is published.

    No licence: that annotation is for all software in it, and the bills of materials say which one each part has.
    """
    values = {"title": "cofferdam", "version": manifest.version, "revision": manifest.commit}
    return {f"org.opencontainers.image.{name}": value for name, value in values.items()}


def target(reference: str, tag: str) -> Reference:
    """Where something is published.

    Raises:
        UsageError: no reference, or one with a digest: that of what is published is not known before.
    """
    found = parse_reference(reference)
    if found.digest:
        raise UsageError(f"{reference}: a digest cannot be chosen", hint="Name a tag, or leave it out for the version.")
    return found if found.tag else found.at(tag=tag)


def publish(
    place: Reference, config: Blob, layers: Sequence[Blob], notes: Mapping[str, str], progress: Progress, *, kind: str = ""
) -> Published:
    """Store blobs, then the manifest that names them.

    Raises:
        UsageError: something else has the tag.
        RegistryError: the registry refuses.
    """
    described = [each.descriptor() for each in (config, *layers)]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        **({"artifactType": kind} if kind else {}),
        "config": described[0],
        "layers": described[1:],
        "annotations": dict(notes),
    }
    data = json.dumps(document, indent=1).encode()
    digest = digest_of(data)
    with closing(Client(place, push=True)) as client:
        there = client.manifest_digest(place.tag)
        if there and there != digest:
            raise UsageError(
                f"{place} is there already, and is something else", hint="Releases are never replaced: use another tag."
            )
        if there:
            return Published(place, digest, already=True)
        with progress.stage("publish", str(place)):
            for blob, facts in zip((config, *layers), described, strict=True):
                sent = client.upload(blob.path, facts["digest"])
                progress.step(f"{blob.path.name}: {'sent' if sent else 'there already'}")
            # The tag last: who sees it finds everything.
            client.put_manifest(data, place.tag)
    return Published(place, digest, already=False)


def fetch_release(reference: str, target: Path, progress: Progress, *, key: Path | None = None) -> Path:
    """Get a release folder from a registry; it is verified before it is put in its place, whole or not at all.

    Args:
        reference: HOST/NAME with a tag or a digest.
        target: the folder to make; it must not be there.
        progress: where to report.
        key: allowed_signers file of who makes the releases; the project's own when not given.

    Returns:
        The folder.

    Raises:
        UsageError: no such reference, or the folder is there already.
        RegistryError: it cannot be had, or is no release.
        HostError: there is no room for it.
        NotVerifiedError: what was there cannot be trusted.
    """
    place = parse_reference(reference)
    if not place.wanted:
        raise UsageError(f"{reference} says neither which version nor which digest", hint="Add :VERSION or @sha256:DIGEST.")
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} is there already", hint="Name another folder.")
    with closing(Client(place)) as client, _beside(target) as work:
        manifest = _release_manifest(client.manifest(place.wanted), place)
        _require_room(work, sum(each.size for each in manifest.layers))
        with progress.stage("fetch", str(place)):
            for each in manifest.layers:
                name = each.annotations[_TITLE]
                progress.step(f"{name}: {each.size / 2**20:.1f} MiB")
                path = work / name
                path.parent.mkdir(exist_ok=True)
                client.download(each.digest, each.size, path)
                path.chmod(0o644)
        with progress.stage("verify", str(place)):
            trusted(work, key)
        os.sync()
        work.rename(target)
    return target


def _release_manifest(data: bytes, place: Reference) -> OciManifest:
    try:
        manifest = OciManifest.model_validate_json(data)
    except ValidationError as error:
        raise RegistryError(f"{place} has no manifest of a release", hint="Look at the name and the tag.") from error
    names = [each.annotations.get(_TITLE, "") for each in manifest.layers]
    wrong = [name for name in names if not _FILE_NAME.fullmatch(name)]
    if manifest.artifactType != RELEASE_TYPE or wrong or MANIFEST not in names or len(set(names)) != len(names):
        raise RegistryError(f"{place} is no release folder", hint="Is it a container disk? Only release folders are fetched.")
    return manifest


def _require_room(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if size > free:
        message = f"the release has {size / 2**20:.0f} MiB, and {directory.parent} has room for {free / 2**20:.0f}"
        raise HostError(message, hint="Make room, or name a folder elsewhere.")


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A directory on the same file system, gone at the end of the block unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        work.chmod(0o755)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
