"""Puts a release folder together: artefacts, bills of materials, manifest, provenance, sums, signature; whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from cofferdam.cache import file_digest
from cofferdam.errors import BuildError, HostError, UsageError
from cofferdam.image.model import Image, Ingredients
from cofferdam.release.manifest import (
    MANIFEST,
    NOTES,
    PACKAGES,
    PROVENANCE,
    SBOM_SUFFIXES,
    SIGNATURE,
    SUFFIXES,
    SUMS,
    Artefact,
    Format,
    ReleaseManifest,
    Sbom,
    artefact_name,
    sbom_name,
)
from cofferdam.release.provenance import make_statement
from cofferdam.release.sbom import make_sbom
from cofferdam.release.signature import sign
from cofferdam.release.sums import contents, make_sums
from cofferdam.tools.packages import recorded


@dataclass(frozen=True)
class Built:
    """A file to be released: where it is now, what it is, and what it holds."""

    path: Path
    profile: str
    format: Format
    kernel: str
    root_hash: str | None = None


def assemble(
    target: Path,
    *,
    version: str,
    commit: str,
    epoch: int,
    built: Sequence[Built],
    images: Mapping[str, Image],
    key: Ed25519PrivateKey,
    packages: Path | None = None,
    notes: str = "",
) -> Path:
    """Write a release folder.

    Args:
        target: the folder; it must not be there.
        version: of the release.
        commit: of the project that it was built from.
        epoch: time stamp of that commit, in seconds: the only time that is in the folder.
        built: the artefacts.
        images: for each profile the image that its artefacts were made from.
        key: what signs the sums.
        packages: directory of `inv lock --keep` that goes with it.
        notes: the release notes, if there are any.

    Raises:
        UsageError: the folder is there, or a name cannot be one of a release.
        BuildError: an image is missing, or does not say what it was made with.
        HostError: the folder cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} is there already", hint="Releases are never replaced: name another folder.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise _unwritten(target, error) from error
    try:
        work.chmod(0o755)
        artefacts = [_take(work, version, each) for each in built]
        profiles = sorted({each.profile for each in built})
        sboms = [each for profile in profiles for each in _sboms(work, version, images[profile], epoch)]
        if notes:
            _write(work / NOTES, notes)
        noted = file_digest(work / NOTES) if notes else None
        manifest = ReleaseManifest(version=version, commit=commit, artefacts=artefacts, sboms=sboms, notes=noted)
        _write(work / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        subjects = {name: file_digest(work / name) for name in contents(work)}
        made = [ingredients(images[profile]) for profile in sorted(images)]
        made += [made[0].model_copy(update={"image_tools": tools}) for each in built if (tools := recorded(each.path.parent))]
        statement = make_statement(manifest, subjects, made)
        _write(work / PROVENANCE, statement.model_dump_json(indent=1, by_alias=True, exclude_none=True) + "\n")
        if packages is not None:
            _take_packages(work / PACKAGES, packages)
        sums = make_sums(work)
        _write(work / SUMS, sums)
        _write(work / SIGNATURE, sign(sums.encode(), key))
        os.sync()
        work.rename(target)
    except KeyError as error:
        raise BuildError(f"there is no image of profile {error} to release", hint="Build it with `inv build-vm`.") from error
    except ValidationError as error:
        raise UsageError(f"this cannot be a release: {error}", hint="Names are of letters, digits and `._+~-`.") from error
    except OSError as error:
        raise _unwritten(target, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _unwritten(target: Path, error: OSError) -> HostError:
    hint = f"Make room in {target.parent}, or name a directory that you can write."
    return HostError(f"{target} cannot be made: {error}", hint=hint)


def ingredients(image: Image) -> Ingredients:
    """What an image was made with.

    Raises:
        BuildError: an image of an earlier version, which does not say.
    """
    try:
        return Ingredients.model_validate_json(image.ingredients.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise BuildError(
            f"{image.directory} does not say what it was made with: {error}",
            hint=f"Run `inv build-vm --profile {image.profile}`.",
        ) from error


def _take(work: Path, version: str, built: Built) -> Artefact:
    name = artefact_name(version, built.profile, built.format) if built.format in SUFFIXES else built.format
    artefact = Artefact(
        name=name,
        profile=built.profile,
        format=built.format,
        size=built.path.stat().st_size,
        sha256=file_digest(built.path),
        kernel=built.kernel,
        root_hash=built.root_hash,
    )
    _copy(built.path, work / name)
    return artefact


def _sboms(work: Path, version: str, image: Image, epoch: int) -> list[Sbom]:
    made = []
    for kind in SBOM_SUFFIXES:
        name = sbom_name(version, image.profile, kind)
        _write(work / name, make_sbom(image, ingredients(image), kind, epoch))
        values = {"name": name, "profile": image.profile, "format": kind, "sha256": file_digest(work / name)}
        made.append(Sbom.model_validate(values))
    return made


def _take_packages(target: Path, source: Path) -> None:
    target.mkdir()
    target.chmod(0o755)
    for path in sorted(source.glob("*.deb")):
        _copy(path, target / path.name)


def _copy(source: Path, target: Path) -> None:
    # A copy, not a link: what is released must not change with what it was made from.
    shutil.copyfile(source.resolve(), target)
    target.chmod(0o644)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
