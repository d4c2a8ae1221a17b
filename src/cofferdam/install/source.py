"""From what the user names, a release folder or the directory of an image, to an installed image."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cofferdam.cache import digest, file_digest, remove_tree
from cofferdam.errors import HostError, UsageError
from cofferdam.image.model import MANIFEST, RELEASED, ROOT, SSH_HOST_KEY, SSH_KEY, Image, open_image
from cofferdam.install.store import install, store_locked
from cofferdam.install.unpack import unpack
from cofferdam.machine.hostos import private_directory
from cofferdam.machine.imageref import Origin
from cofferdam.progress import Progress
from cofferdam.release.manifest import MANIFEST as RELEASE_MANIFEST
from cofferdam.release.manifest import Artefact, ReleaseManifest
from cofferdam.release.verify import NotVerifiedError, trusted

FORMAT = "direct"
_USUAL = "default"
DOWNLOAD = ".download"
_REGISTRY = "cofferdam.release.registry"


@dataclass(frozen=True)
class Wanted:
    """What the user said about an image.

    Attributes:
        profile: of which one; empty for that of the instance, or the only one that there is.
        key: allowed_signers file; the project's own when none was named.
        unverified: take it although nobody vouches for it.
    """

    profile: str = ""
    key: Path | None = None
    unverified: bool = False


def from_directory(place: Path, wanted: Wanted, progress: Progress) -> Image:
    """Install the image of a release folder, or of an image's directory.

    Raises:
        NotVerifiedError: `inv verify` would not accept it, and it was not asked for all the same.
        UsageError: there is no image in it, none of that profile, or several to choose from.
        ArchiveError: the archive is no image.
        InstanceError: it cannot be installed.
    """
    if not place.is_dir():
        raise UsageError(f"--image {place}: there is no such directory", hint="Name the folder of a release.")
    with store_locked() as store:
        return _installed(store, place, wanted, progress)


def from_registry(reference: str, wanted: Wanted, progress: Progress) -> Image:
    """Download a release from a registry, verify it and install its image.

    Raises:
        HostError: this version cannot download.
        CofferdamError: see `fetch_release` and `from_directory`.
    """
    try:
        fetch_release = importlib.import_module(_REGISTRY).fetch_release
    except ImportError as error:
        hint = "Download the release folder by other means, and name it: --image DIR."
        raise HostError("this version cannot download from a registry", hint=hint) from error
    with store_locked() as store:
        # There is one place, and the lock is held: what is there was left by a killed command.
        work = store / DOWNLOAD
        remove_tree(work)
        private_directory(work)
        try:
            return _installed(store, fetch_release(reference, work / "release", progress, key=wanted.key), wanted, progress)
        finally:
            remove_tree(work)


def _installed(store: Path, place: Path, wanted: Wanted, progress: Progress) -> Image:
    if (place / ROOT).exists():
        return _bare(store, place, wanted, progress)
    with progress.stage("verify", str(place)):
        manifest, verified = _release(place, wanted, progress)
    return _released(store, place, _chosen(manifest, wanted.profile), manifest, verified, progress)


def _release(place: Path, wanted: Wanted, progress: Progress) -> tuple[ReleaseManifest, bool]:
    """The manifest of a release folder, and whether the folder is right in every respect."""
    try:
        return trusted(place, wanted.key), True
    except NotVerifiedError as error:
        if not wanted.unverified:
            hint = f"{error.hint} `inv verify` shows every check. Only if you mean it: --unverified."
            raise NotVerifiedError(str(error), hint=hint) from error
        progress.line(f"NOT VERIFIED   {error}")
    try:
        return ReleaseManifest.model_validate_json((place / RELEASE_MANIFEST).read_bytes()), False
    except (OSError, ValueError) as error:
        raise UsageError(f"--image {place}: it is neither a release nor an image: {_line(error)}") from error


def _chosen(manifest: ReleaseManifest, profile: str) -> Artefact:
    there = {each.profile: each for each in manifest.artefacts if each.format == FORMAT}
    names = profile or (_USUAL if _USUAL in there or len(there) != 1 else next(iter(there)))
    if names not in there:
        found = ", ".join(sorted(there)) or "none"
        raise UsageError(
            f"release {manifest.version} has no image of profile {names} to boot; it has: {found}", hint="Name one: --profile."
        )
    return there[names]


def _released(
    store: Path, place: Path, artefact: Artefact, manifest: ReleaseManifest, verified: bool, progress: Progress
) -> Image:
    if manifest.misnamed():
        raise UsageError(f"{place}: {manifest.misnamed()[0]} is not a name that a release gives")

    def fill(work: Path) -> Origin:
        with progress.stage("install", artefact.name):
            expected = artefact.sha256 if verified else None
            found, files = unpack(place / artefact.name, work, size=_size(place, artefact, verified), sha256=expected)
            _require_profile(open_image(work), artefact)
        facts = {"artefact": artefact.name, "sha256": found, "verified": verified, "files": files}
        return Origin.model_validate({"version": manifest.version, "commit": manifest.commit, **facts})

    try:
        sha256 = artefact.sha256 if verified else file_digest(place / artefact.name)
    except OSError as error:
        raise UsageError(f"--image {place}: {artefact.name}: {error.strerror}", hint="Name a whole release folder.") from error
    return install(store, f"{sha256[:32]}-{manifest.version}", fill, verified)


def _size(place: Path, artefact: Artefact, verified: bool) -> int:
    return artefact.size if verified else (place / artefact.name).stat().st_size


def _require_profile(image: Image, artefact: Artefact) -> None:
    if image.profile != artefact.profile:
        raise NotVerifiedError(
            f"{artefact.name} holds an image of profile {image.profile}", hint="Ask who released it; use another release."
        )
    if image.ssh_key is not None:
        raise UsageError(f"{artefact.name} holds an image that lets ssh in, and releases have no keys", hint="Build it here.")


def _bare(store: Path, place: Path, wanted: Wanted, progress: Progress) -> Image:
    """Install a directory with the files of an image, which nobody can vouch for."""
    if not wanted.unverified:
        message = f"{place} is the directory of an image, which nobody has signed"
        raise NotVerifiedError(message, hint="Name the folder of a release, or, only if you mean it, add --unverified.")
    image = open_image(place)
    if wanted.profile and image.profile != wanted.profile:
        raise UsageError(f"--image {place} is of profile {image.profile}, not {wanted.profile}", hint="Leave --profile out.")
    keys = [SSH_KEY, SSH_HOST_KEY] if image.ssh_key is not None else []
    names = [name for name in (*RELEASED, *keys) if (place / name).exists()]
    sums = {name: file_digest(place / name) for name in names}

    def fill(work: Path) -> Origin:
        with progress.stage("install", str(place)):
            _copy(place, work, names)
        # Of what is there now: it may have changed meanwhile, and is not verified anyway.
        files = {name: file_digest(work / name) for name in names}
        return Origin(artefact=str(place), sha256=digest(sums), verified=False, files=files)

    progress.line(f"NOT VERIFIED   {place} is the directory of an image, which nobody has signed")
    return install(store, f"{digest(sums)[:32]}-{MANIFEST.partition('.')[0]}", fill, verified=False)


def _copy(place: Path, work: Path, names: Sequence[str]) -> None:
    for name in names:
        shutil.copyfile(place / name, work / name)
        (work / name).chmod(0o600)
        handle = os.open(work / name, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
