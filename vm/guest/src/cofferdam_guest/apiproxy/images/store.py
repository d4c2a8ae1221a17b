"""What was last known of the allowed images, kept over restarts for when no registry can be reached.

One JSON file on the data disk. The disk is the desktop's and so is its user: who writes to it from outside can put an image's id
here, but can as well change the layers of an image that is allowed; the file adds nothing to what that user can do. It is
untrusted input all the same: anything but what is written here reads as nothing known.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from typing import Any

from cofferdam_guest.apiproxy.images.manifests import DIGEST
from cofferdam_guest.config import positions

PATH = "/var/lib/cofferdam/socket-images.json"
FORMAT = 1
_IDS_LIMIT = 128
DIGESTS_LIMIT = 64
"""Digests kept for one entry; only `:*` has more than one."""

Known = dict[str, dict[str, frozenset[str]]]
"""By entry of the policy: by manifest digest: the image ids behind it."""


class Store:
    """The file at `path`; its directory is made when it is missing."""

    def __init__(self, path: str = PATH) -> None:
        self._directory, self._name = os.path.split(path)

    def load(self, entries: Iterable[str]) -> Known:
        """What is known of these entries; nothing when the file is missing, unreadable or not exactly ours."""
        try:
            directory = self._open_directory()
            try:
                document = positions.parse(_read(self._name, directory)).plain()
            finally:
                os.close(directory)
            known = _known(document)
        except (OSError, ValueError):
            return {}
        return {entry: known[entry] for entry in entries if entry in known}

    def save(self, known: Known) -> None:
        """Replace the file, at once and for root only. Raises OSError."""
        text = json.dumps(
            {"format": FORMAT, "entries": {entry: {d: sorted(ids) for d, ids in each.items()} for entry, each in known.items()}}
        )
        os.makedirs(self._directory, 0o700, exist_ok=True)
        directory = self._open_directory()
        temporary = f"{self._name}.{os.urandom(8).hex()}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
            try:
                with open(fd, "w", encoding="ascii") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, self._name, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                os.unlink(temporary, dir_fd=directory)
                raise
        finally:
            os.close(directory)

    def _open_directory(self) -> int:
        return os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _read(name: str, directory: int) -> bytes:
    # Not to be led elsewhere by a link, nor to wait for a pipe's other end.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("not a file")
        return file.read(positions.SIZE_LIMIT + 1)  # parse() refuses what is larger


def _known(document: Any) -> Known:
    if not isinstance(document, dict) or document.keys() != {"format", "entries"} or document["format"] != FORMAT:
        raise ValueError("another format")
    entries = document["entries"]
    if not isinstance(entries, dict):
        raise ValueError("no entries")
    return {entry: _digests(each) for entry, each in entries.items()}


def _digests(value: Any) -> dict[str, frozenset[str]]:
    if not isinstance(value, dict) or len(value) > DIGESTS_LIMIT:
        raise ValueError("digests")
    return {_digest(digest): _ids(ids) for digest, ids in value.items()}


def _ids(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not 0 < len(value) <= _IDS_LIMIT:
        raise ValueError("ids")
    return frozenset(_digest(item) for item in value)


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise ValueError("digest")
    return value
