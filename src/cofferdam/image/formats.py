"""An image as one file that is booted elsewhere: a disk of one format or another, or the files of a direct boot."""

from __future__ import annotations

import tarfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cofferdam.cache import Stage, digest, file_digest, remove_tree
from cofferdam.errors import BuildError, UsageError
from cofferdam.image.measured import make_seal
from cofferdam.image.model import KERNEL, MANIFEST, ROOT, SSH_HOST_KEY, SSH_KEY, Image, Manifest, require_kernel
from cofferdam.image.partitions import make_disk
from cofferdam.image.signing import Signer, load_signer
from cofferdam.image.unified import make_unified
from cofferdam.image.vhdx import settle
from cofferdam.progress import Progress
from cofferdam.tools.failures import explained, require_space
from cofferdam.tools.lock import Pinned
from cofferdam.tools.packages import RECORD
from cofferdam.tools.tree import ToolsTree, ensure_image_tools

FORMATS = ("direct", "raw", "qcow2", "vhdx")
DIRECT, RAW = "direct", "raw"
STAGE, CONTENT = "artefact", "content"
"""The cached stage, and the file in it that says what the artefact was made from."""

_VERSION = 2
"""To be raised when this module makes one of them in another way."""

_SPACE_MIB = 600
_UNSIGNED, _SIGNED = "nothing is signed for a direct boot", "Secure Boot is for --format raw, qcow2 or vhdx."
_SECRETS = (SSH_KEY, SSH_HOST_KEY)
_SUFFIXES = {DIRECT: "-direct.tar", RAW: ".raw", "qcow2": ".qcow2", "vhdx": ".vhdx"}

# One at a time and in order: two workers would put clusters where there is place when they are done.
_CONVERT = {
    "qcow2": ("-m1", "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off"),
    "vhdx": ("-m1", "-O", "vhdx", "-o", "subformat=dynamic,block_size=1M"),
}

Maker = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Artefact:
    """One file that holds an image.

    Attributes:
        path: the file.
        format: one of `FORMATS`.
        root_hash: hash of the verified root; none of an image whose root is not verified.
    """

    path: Path
    format: str
    root_hash: str | None


def require_format(format: str) -> str:
    """The format, when there is such a one.

    Raises:
        UsageError: there is not.
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format}: there is no such format", hint=f"There are: {', '.join(FORMATS)}.")
    return format


def chosen_signer(format: str, key: str, certificate: str) -> Signer | None:
    """The signer that the options of a command ask for; none when they name no key.

    Raises:
        UsageError: there is no such format, no format to sign, or the key cannot be used.
    """
    if format:
        require_format(format)
    if not key:
        if certificate:
            raise UsageError("--certificate without a key", hint="Name the key with --secure-boot.")
        return None
    if format in ("", DIRECT):
        raise UsageError(_UNSIGNED, hint=_SIGNED)
    return load_signer(key, certificate)


def make_artefact(
    image: Image, format: str, progress: Progress, *, signer: Signer | None = None, pinned: Pinned | None = None
) -> Artefact:
    """An image in a format, from the cache or made; the same image, tools and key give the same bytes.

    Args:
        image: what it holds.
        format: one of `FORMATS`.
        progress: where to report.
        signer: who signs the unified kernel image of a disk; none leaves it unsigned. A direct boot has none.
        pinned: the lock that the image tools tree has to be made from.

    Raises:
        UsageError: an unknown format, or a key for a format in which nothing is signed.
        BuildError: the image is one of an earlier version without a verified root, its kernel is not that of its manifest, or a
            tool failed.
    """
    require_format(format)
    if format == DIRECT:
        if signer is not None:
            raise UsageError(_UNSIGNED, hint=_SIGNED)
        require_kernel(image)
        return _artefact(image, format, progress, _direct_maker(image), _unnamed(image), None)
    if image.verity is None:
        raise BuildError(
            f"{image.directory} has no verified root: it is of an earlier version",
            hint=f"Run `inv build-vm --profile {image.profile} --format {format}`.",
        )
    # Or a signature would say that it is.
    require_kernel(image)
    tools = ensure_image_tools(progress, pinned)
    inputs = {"tools": tools.key, **({"signer": signer.identity} if signer is not None else {})}
    raw = _artefact(image, RAW, progress, _raw_maker(image, signer, tools), inputs, tools)
    return raw if format == RAW else _artefact(image, format, progress, _converter(image, format, raw.path, tools), inputs, tools)


def _artefact(
    image: Image, format: str, progress: Progress, make: Maker, inputs: dict[str, str], tools: ToolsTree | None
) -> Artefact:
    whole = {**inputs, "image": file_digest(image.manifest), "format": format, "version": _VERSION}
    manifest = Manifest.model_validate_json(image.manifest.read_bytes())

    def make_all(work: Path, log: Path) -> None:
        if image.ssh_key is not None:
            # The root of a profile with ssh holds its server's key: nobody else comes near, not even to what is half made.
            work.chmod(0o700)
        make(work, log)
        (work / CONTENT).write_text(content_of(manifest), encoding="ascii")
        if tools is not None and (contents := tools.contents) is not None:
            (work / RECORD).write_text(contents.model_dump_json(indent=1) + "\n", encoding="utf-8")

    path = Stage(STAGE, digest(whole)).build(make_all, progress, f"{image.profile} as {format}")
    root_hash = image.verity.root_hash if image.verity is not None else None
    return Artefact(path / artefact_file(image.profile, format), format, root_hash)


def content_of(manifest: Manifest) -> str:
    """What an artefact and the image that it was made from have in common."""
    return digest([manifest.profile, *(manifest.files[name].sha256 for name in (KERNEL, ROOT))])


def artefact_file(profile: str, format: str) -> str:
    """Name of an artefact's file in its stage."""
    return f"cofferdam-{profile}{_SUFFIXES[format]}"


def _packed(image: Image) -> list[Path]:
    """The files of a direct boot."""
    return [path for path in sorted(image.directory.iterdir()) if path.is_file() and path.name not in _SECRETS]


def _unnamed(image: Image) -> dict[str, str]:
    """Checksums of those that the manifest does not name: lists of packages, made anew, may differ."""
    named = Manifest.model_validate_json(image.manifest.read_bytes()).files
    return {f"file {path.name}": file_digest(path) for path in _packed(image) if path.name not in (MANIFEST, *named)}


def _direct_maker(image: Image) -> Maker:
    def make(work: Path, _: Path) -> None:
        target = work / artefact_file(image.profile, DIRECT)
        with tarfile.open(target, "w:", format=tarfile.USTAR_FORMAT) as sink:
            for path in _packed(image):
                member = tarfile.TarInfo(path.name)
                member.size, member.mode, member.uname, member.gname = path.stat().st_size, 0o644, "root", "root"
                with path.open("rb") as source:
                    sink.addfile(member, source)
        _finish(target, target, image)

    return make


def _raw_maker(image: Image, signer: Signer | None, tools: ToolsTree) -> Maker:
    def make(work: Path, log: Path) -> None:
        require_space(work, _SPACE_MIB, "disk image")
        parts = work / "parts"
        parts.mkdir()
        release = Manifest.model_validate_json(image.manifest.read_bytes()).kernel.version
        program = make_unified(image, release, signer, tools, parts, log)
        sealed = make_seal(program, signer, tools, parts, log) if signer is not None else None
        _finish(make_disk(image, program, sealed, tools, parts, log), work / artefact_file(image.profile, RAW), image)
        remove_tree(parts)

    return make


def _converter(image: Image, format: str, source: Path, tools: ToolsTree) -> Maker:
    def make(work: Path, log: Path) -> None:
        require_space(work, _SPACE_MIB, f"{format} image")
        target = work / artefact_file(image.profile, format)
        words = ["qemu-img", "convert", "-f", "raw", *_CONVERT[format], "/source.raw", f"/work/{target.name}"]
        with explained(f"{format} image", log):
            tools.run(words, binds={source: "/source.raw", work: "/work"}, log=log)
        if format == "vhdx":
            settle(target, uuid.UUID(digest([file_digest(image.manifest), format])[:32]))
        _finish(target, target, image)

    return make


def _finish(made: Path, target: Path, image: Image) -> None:
    made.rename(target)
    target.chmod(0o600 if image.ssh_key is not None else 0o644)
