"""A root file system as a tar: a base tar, less what is removed, plus entries of ours. Needs no privilege.

Ownership, modes and links travel in the archive, so that an ordinary user can build a root-owned tree.
"""

from __future__ import annotations

import copy
import io
import posixpath
import stat
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cofferdam.errors import BuildError


@dataclass(frozen=True)
class Entry:
    """A file, link or directory to put into the root, owned by root.

    Args:
        path: where, without a leading slash.
        data: the content of a file.
        mode: permission bits.
        link: target of a symbolic link; then `data` and `mode` mean nothing.
        directory: whether it is a directory.
    """

    path: str
    data: bytes = b""
    mode: int = 0o644
    link: str | None = None
    directory: bool = False


def clean_name(name: str) -> str:
    """An archive member's name as a path without a leading `./` or slash; empty for the root itself."""
    return posixpath.normpath("/" + name).lstrip("/")


def is_removed(path: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern matches the path or a directory above it (`*` matches slashes too)."""
    return any(fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*") for pattern in patterns)


def compose(base: Path, result: Path, remove: Iterable[str], entries: Iterable[Entry]) -> None:
    """Write `result`: members of `base` that no `remove` pattern matches, overlaid with `entries` (later ones win).

    Members are in order of their names, so the same input gives the same bytes.

    Raises:
        BuildError: a pattern that matches nothing, or an entry below something that is not a directory.
    """
    with tarfile.open(base, "r:") as source:
        members = {clean_name(member.name): member for member in source if clean_name(member.name)}
        kept = _keep(members, list(remove))
        contents = _overlay(kept, {entry.path: entry for entry in entries})
        with tarfile.open(result, "w:", format=tarfile.PAX_FORMAT) as sink:
            # without it the root itself would be open to everybody
            sink.addfile(_member(Entry(".", directory=True, mode=0o755)))
            for name in sorted(kept):
                _write(source, sink, kept[name], contents.get(name))


def _keep(members: Mapping[str, tarfile.TarInfo], patterns: list[str]) -> dict[str, tarfile.TarInfo]:
    unused = [pattern for pattern in patterns if not any(is_removed(name, [pattern]) for name in members)]
    if unused:
        raise BuildError(
            f"nothing in the root file system matches: {', '.join(unused)}",
            hint="Take the pattern out of vm/rootfs/remove/*.list, or correct it: a list that lies removes nothing.",
        )
    groups: dict[str, str] = {}
    kept: dict[str, tarfile.TarInfo] = {}
    for name in sorted(members):
        if is_removed(name, patterns):
            continue
        member = _plain(members[name])
        origin = clean_name(member.linkname) if member.islnk() else name
        first = groups.setdefault(origin, name)
        if first == name and member.islnk():
            member = _plain(members[origin])
        elif first != name:
            member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
        member.name = name
        kept[name] = member
    return kept


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A copy without time stamps, without extended attributes and, for a file, without setuid and setgid bits.

    Nobody but root runs programs in the machine: a program that raises privileges could only ever serve an attacker.
    """
    result = copy.copy(member)
    result.mtime, result.pax_headers = 0, {}
    if result.isreg():
        result.mode &= ~(stat.S_ISUID | stat.S_ISGID)
    return result


def _overlay(kept: dict[str, tarfile.TarInfo], entries: Mapping[str, Entry]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for path in sorted(entries):
        _parents(kept, path)
        entry = entries[path]
        old = kept.get(path)
        if old is not None and old.isdir():
            if entry.directory:
                continue
            raise BuildError(f"/{path} is a directory in the base, and a file in the overlay", hint="Rename one of them.")
        kept[path] = _member(entry)
        contents[path] = entry.data
    return contents


def _parents(kept: dict[str, tarfile.TarInfo], path: str) -> None:
    parent = posixpath.dirname(path)
    if not parent:
        return
    _parents(kept, parent)
    found = kept.setdefault(parent, _member(Entry(parent, directory=True, mode=0o755)))
    if not found.isdir():
        raise BuildError(f"/{path} would lie below /{parent}, which is not a directory", hint="Use the path behind the link.")


def _member(entry: Entry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(entry.path)
    member.mode, member.uname, member.gname = entry.mode, "root", "root"
    if entry.link is not None:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.link, 0o777
    elif entry.directory:
        member.type = tarfile.DIRTYPE
        member.mode = entry.mode if entry.mode & 0o111 else 0o755
    else:
        member.size = len(entry.data)
    return member


def _write(source: tarfile.TarFile, sink: tarfile.TarFile, member: tarfile.TarInfo, data: bytes | None) -> None:
    if not member.isreg():
        sink.addfile(member)
    elif data is not None:
        sink.addfile(member, io.BytesIO(data))
    else:
        sink.addfile(member, source.extractfile(member))
