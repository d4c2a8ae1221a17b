"""A KubeVirt containerDisk: an image of one layer that holds the disk and nothing else."""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path

from cofferdam.cache import file_digest
from cofferdam.errors import HostError, UsageError
from cofferdam.progress import Progress
from cofferdam.release.manifest import CONTAINER_DISKS, Artefact, ReleaseManifest
from cofferdam.release.packing import unpacked_file
from cofferdam.release.reference import version_tag
from cofferdam.release.registry import Blob, Published, labels, publish, target
from cofferdam.release.verify import trusted

QEMU = 107
"""User and group that KubeVirt runs QEMU as."""

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def publish_container_disk(
    folder: Path, reference: str, progress: Progress, *, profile: str = "default", kind: str = "", key: Path | None = None
) -> Published:
    """Store a disk of a release in a registry as an image that KubeVirt boots from.

    Args:
        folder: the release.
        reference: HOST/NAME with a tag or without; the version is the tag then.
        progress: where to report.
        profile: whose disk.
        kind: format of the disk; the first one of CONTAINER_DISKS that the release has when empty.
        key: allowed_signers file of who makes the releases; the project's own when not given.

    Raises:
        NotVerifiedError: the folder cannot be trusted.
        UsageError: it has no such disk, or something else has the tag.
        HostError: there is no room for the layer.
        RegistryError: the registry refuses.
    """
    manifest = trusted(folder, key)
    disk = choose_disk(manifest, profile, kind)
    with tempfile.TemporaryDirectory(prefix="cofferdam-publish-") as name:
        work = Path(name)
        with progress.stage("disk", disk.name):
            layer = _layer(work, folder / disk.name)
        config = work / "config.json"
        config.write_text(json.dumps(image_config(layer, manifest)), encoding="utf-8")
        place = target(reference, version_tag(manifest.version))
        notes = {**labels(manifest), "org.opencontainers.image.description": f"KubeVirt containerDisk of {disk.name}"}
        return publish(place, Blob(config, _CONFIG_TYPE, {}), [Blob(layer, _LAYER_TYPE, {})], notes, progress)


def choose_disk(manifest: ReleaseManifest, profile: str, kind: str = "") -> Artefact:
    """The artefact that becomes the disk.

    Raises:
        UsageError: there is none.
    """
    if kind and kind not in CONTAINER_DISKS:
        raise UsageError(f"--format {kind}: KubeVirt does not boot that", hint=f"Name one of {', '.join(CONTAINER_DISKS)}.")
    there = {each.format: each for each in manifest.artefacts if each.profile == profile}
    wanted = [kind] if kind else CONTAINER_DISKS
    found = next((there[each] for each in wanted if each in there), None)
    if found is None:
        raise UsageError(
            f"the release has no {' or '.join(wanted)} of profile `{profile}`",
            hint=f"It has: {', '.join(each.name for each in manifest.artefacts)}.",
        )
    return found


def _layer(work: Path, disk: Path) -> Path:
    try:
        return write_layer(work, unpacked_file(disk, work))
    except OSError as error:
        hint = "Make room, or set TMPDIR to a directory that has room for twice the disk."
        raise HostError(f"{disk.name} cannot be unpacked in {work.parent}: {error.strerror}", hint=hint) from error


def write_layer(work: Path, disk: Path) -> Path:
    """The layer, in a directory: `/disk` with one file, owned by KubeVirt's QEMU; the same disk gives the same bytes."""
    path = work / "layer.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as sink, open(disk, "rb") as source:
        directory, file = tarfile.TarInfo("disk"), tarfile.TarInfo(f"disk/{disk.name}")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o555
        file.size, file.mode = disk.stat().st_size, 0o444
        for entry in (directory, file):
            entry.uid = entry.gid = QEMU
        sink.addfile(directory)
        sink.addfile(file, source)
    return path


def image_config(layer: Path, manifest: ReleaseManifest) -> dict[str, object]:
    """The image's configuration."""
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": labels(manifest)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{file_digest(layer)}"]},
    }
