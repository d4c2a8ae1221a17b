"""How artefacts are packed into a release and out of it again: what a suffix of their name says, and nothing else."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import zstandard

from cofferdam.errors import BuildError

COMPRESSED = ".zst"
_LEVEL = 9


def packed_file(source: Path, target: Path) -> None:
    """Copy a file, compressed when the target's name says so; the same file gives the same bytes.

    Raises:
        OSError: it cannot be read or written.
    """
    if target.suffix != COMPRESSED or source.suffix == COMPRESSED:
        shutil.copyfile(source, target)
        return
    # One thread: with several, the result depends on how many there are.
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with open(source, "rb") as plain, open(target, "wb") as sink:
        compressor.copy_stream(plain, sink, size=source.stat().st_size)


def unpacked_file(source: Path, directory: Path) -> Path:
    """A file as it was before it was compressed: itself when it is not, else a new one in a directory.

    Raises:
        BuildError: it is damaged.
    """
    if source.suffix != COMPRESSED:
        return source
    target = directory / source.name.removesuffix(COMPRESSED)
    try:
        with open(source, "rb") as compressed, open(target, "wb") as sink:
            zstandard.ZstdDecompressor().copy_stream(compressed, sink)
    except zstandard.ZstdError as error:
        raise BuildError(f"{source}: {error}", hint="Download it again.") from error
    return target


def unpacked_directory(archive: Path, directory: Path) -> Path:
    """The files of a tar archive, in a directory.

    Raises:
        BuildError: it is no archive, or holds anything but ordinary files with plain names.
    """
    try:
        with tarfile.open(archive) as source:
            for member in source:
                if not member.isreg() or member.name != Path(member.name).name or member.name.startswith("."):
                    raise BuildError(f"{archive.name} holds {member.name!r}, which no image does", hint="Do not use it.")
                source.extract(member, directory, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise BuildError(f"{archive}: {error}", hint="Download it again.") from error
    return directory
