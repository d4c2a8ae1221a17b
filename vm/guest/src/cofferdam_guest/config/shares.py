"""Directories of the desktop in the VM: what the host says of them, and which ones a policy lets be shared.

They are mounted at the path they have on the desktop. The VM's root is read-only, so that path has to begin with one of ROOTS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cofferdam_guest.below import is_below
from cofferdam_guest.config import positions

VERSION = 1
ROOTS = (
    *("/Users", "/Volumes", "/build", "/builds", "/code", "/data", "/home", "/media", "/mnt", "/nfs", "/opt", "/private"),
    *("/projects", "/root", "/scratch", "/srv", "/tmp", "/work", "/workspace", "/workspaces"),  # noqa: S108 - nothing is made there
)
"""Directories of the VM's root below which shares are mounted; they are empty in the image."""

NOT_ITSELF = ("/tmp",)  # noqa: S108 - a name
"""Roots that the VM needs for itself: only what is below them can be shared."""

VARIABLES = ("$HOME", "$TMP", "$TEMP")
"""What a policy's folders may begin with; the host says what they stand for."""


class ShareError(ValueError):
    """The host's document is not one; the message says what is wrong."""


@dataclass(frozen=True)
class Share:
    """One directory of the desktop.

    Attributes:
        path: where it lies on the desktop, and in the VM; absolute and normal.
        read_only: whether the VM cannot change it.
        tag: name of its virtiofs device.
    """

    path: str
    read_only: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Shares:
    """What the host offers.

    Attributes:
        shares: the directories.
        variables: what `$HOME` and the others stand for on the desktop.
    """

    shares: tuple[Share, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The document that the guest reads."""
        listed = [{"path": each.path, "read_only": each.read_only, "tag": each.tag} for each in self.shares]
        return json.dumps({"version": VERSION, "variables": dict(self.variables), "shares": listed}, sort_keys=True)


def from_json(text: str | bytes) -> Shares:
    """The reverse of `Shares.to_json`. Raises ShareError for anything else."""
    try:
        document = positions.parse(text).plain()
    except positions.JsonError as error:
        raise ShareError(str(error)) from error
    if not isinstance(document, dict) or set(document) != {"version", "variables", "shares"} or document["version"] != VERSION:
        raise ShareError(f"not a list of shares of version {VERSION}")
    variables, listed = document["variables"], document["shares"]
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise ShareError("variables must be texts")
    if not isinstance(listed, list):
        raise ShareError("shares must be a list")
    return Shares(tuple(_share(each) for each in listed), variables)


def _share(value: Any) -> Share:
    kinds = {"path": str, "read_only": bool, "tag": str}
    if not isinstance(value, dict) or {key: type(each) for key, each in value.items()} != kinds:
        raise ShareError("a share has a path, a tag, and whether it is read_only")
    return Share(**value)


def problem(path: str) -> str:
    """Why a directory cannot be mounted in the VM at this path; empty when it can."""
    if not path.startswith("/") or path.startswith("//") or path != os.path.normpath(path) or "\0" in path or "\n" in path:
        return "it is not an absolute path without `.`, `..` and line ends"
    root = root_of(path)
    if not root:
        return f"the VM can mount below {', '.join(ROOTS)} only"
    if path in NOT_ITSELF:
        return f"the VM has its own {path}: share a directory in it"
    return ""


def root_of(path: str) -> str:
    """The one of ROOTS that a path begins with; empty for none."""
    root = "/" + path.split("/", 2)[1] if path.startswith("/") else ""
    return root if root in ROOTS else ""


def allowed(path: str, folders: Iterable[str] | None, variables: Mapping[str, str]) -> bool:
    """Whether a policy lets a directory be shared.

    Args:
        path: of the directory.
        folders: the policy's; none when it does not say.
        variables: what its variables stand for; a folder that begins with an unknown one allows nothing.
    """
    return folders is None or any(folder and is_below(path, folder) for folder in expanded(folders, variables))


def expanded(folders: Iterable[str], variables: Mapping[str, str]) -> Sequence[str]:
    """A policy's folders as paths; empty texts for those that mean nothing here."""
    return [_expanded(folder, variables) for folder in folders]


def _expanded(folder: str, variables: Mapping[str, str]) -> str:
    if not folder.startswith("$"):
        path = folder
    else:
        name, slash, rest = folder.partition("/")
        path = variables[name] + slash + rest if variables.get(name) else ""
    return os.path.normpath(path) if path.startswith("/") else ""
