"""Unpacks the `direct` artefact of a release, a tar, into files: only those that an image has, and no byte more than it has.

Nothing of the archive says where something is written: its names are compared with a list, and everything but the contents of
ordinary files is refused. So links, absolute names, devices, sparse files, owners and modes have no way in.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import BinaryIO, ClassVar

from cofferdam.errors import CofferdamError
from cofferdam.image.model import MANIFEST, RELEASED, Manifest

_CHUNK = 1 << 20


class ArchiveError(CofferdamError):
    """An archive that is not an image, or not the one that was released."""

    exit_code: ClassVar[int] = 1


def unpack(artefact: Path, target: Path, *, size: int, sha256: str | None) -> tuple[str, dict[str, str]]:
    """Write the files of an image.

    Args:
        artefact: the tar.
        target: an empty directory.
        size: bytes that the tar has by the release; it may have no others.
        sha256: its checksum by the release; none when nothing vouches for it.

    Returns:
        Its checksum, and those of the files.

    Raises:
        ArchiveError: it is another archive, or holds something else than an image. What was written until then is to be removed.
    """
    with artefact.open("rb") as source:
        reader = _Reader(source, size)
        try:
            # As a stream and uncompressed: what is read once, from the first byte to the last, is what the checksum is of.
            with tarfile.open(fileobj=reader, mode="r|") as tar:
                files = _members(tar, target, size)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise _refused(f"{artefact.name} is not an archive of an image: {error}") from error
        found = reader.finish()
    if sha256 is not None and found != sha256:
        raise _refused(f"{artefact.name} is not the file that was released")
    _check(target, files, artefact.name)
    return found, files


class _Reader(io.RawIOBase):
    """A file that is hashed while it is read, and has the bytes that it is said to have."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source, self._left, self._hash = source, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(min(self._left, _CHUNK if size < 0 else size))
        self._left -= len(data)
        self._hash.update(data)
        return data

    def finish(self) -> str:
        """Read what is left; the checksum of everything."""
        while self.read(_CHUNK):
            pass
        if self._left or self._source.read(1):
            raise _refused("the archive has another size than the release says")
        return self._hash.hexdigest()


def _members(tar: tarfile.TarFile, target: Path, size: int) -> dict[str, str]:
    files: dict[str, str] = {}
    left = size
    for member in tar:
        name = member.name.removeprefix("./")
        if member.isdir() and name in ("", "."):
            continue
        if name not in RELEASED or name in files:
            raise _refused(f"the archive holds {_shown(member.name)}, which an image has not, or not twice")
        if not member.isreg() or member.issparse() or not 0 <= member.size <= left:
            raise _refused(f"{name} in the archive is not an ordinary file, or too large")
        left -= member.size
        files[name] = _write(tar, member, target / name)
    return files


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    content = tar.extractfile(member)
    assert content is not None
    digest, handle = hashlib.sha256(), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as sink:
        while data := content.read(_CHUNK):
            digest.update(data)
            sink.write(data)
        sink.flush()
        os.fsync(sink.fileno())
    if path.stat().st_size != member.size:
        raise _refused(f"{path.name} in the archive is cut")
    return digest.hexdigest()


def _check(target: Path, files: dict[str, str], name: str) -> None:
    """The manifest that is in the archive says what its files are."""
    if MANIFEST not in files:
        raise _refused(f"{name} holds no {MANIFEST}")
    try:
        manifest = Manifest.model_validate_json((target / MANIFEST).read_bytes())
    except ValueError as error:
        raise _refused(f"{MANIFEST} in {name} is not one of this version: {error}") from error
    for file, facts in manifest.files.items():
        if files.get(file) != facts.sha256:
            raise _refused(f"{_shown(file)} in {name} is not what its {MANIFEST} says")


def _shown(name: str) -> str:
    # Nobody knows who has chosen it: it may not speak to the terminal.
    return "`" + "".join(each if each.isprintable() else "?" for each in name)[:80] + "`"


def _refused(message: str) -> ArchiveError:
    return ArchiveError(message, hint="Do not use it; download the release again.")
