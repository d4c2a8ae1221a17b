"""Which directories of this machine a VM is to see: what was asked for, what the policy lets, and never our own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cofferdam.errors import HostError, UsageError
from cofferdam.guestconfig import Policy, Share, is_below, shares
from cofferdam.machine.sharetext import share_text
from cofferdam.paths import cache_home, runtime_dir, state_home

_OFF = "`--share none` shares nothing."
_MOST = 14
"""The machine's bus has no more places."""

_FOLDERS = "filesharingAllowedDirectories"


@dataclass(frozen=True)
class Choice:
    """What will be shared.

    Attributes:
        shares: the directories, in order; tags are theirs alone.
        variables: what a policy's `$HOME` and the others are here.
        notes: what to tell about it.
    """

    shares: tuple[Share, ...] = ()
    variables: dict[str, str] | None = None
    notes: tuple[str, ...] = ()

    def document(self) -> bytes | None:
        """What the guest reads; none when nothing is shared."""
        return shares.Shares(self.shares, self.variables or {}).to_json().encode() if self.shares else None


def choose(asked: Sequence[str] | None, policy: Policy | None) -> Choice:
    """Decide what is shared.

    Args:
        asked: `PATH` or `PATH:ro` each, absolute; none for the default, which is the home directory, read-write, or, where
            the policy does not let it be shared, what the policy itself shares.
        policy: the one that will hold; none when the image does not tell its own.

    Raises:
        HostError: asked for, and this system cannot share.
        UsageError: a directory is not there, the policy forbids it, or two cover each other.
    """
    variables = _variables()
    if asked is None:
        return _default(policy, variables)
    if not asked:
        return Choice()
    if sys.platform != "linux":
        raise HostError("directories can be shared from Linux only so far", hint="Use volumes: they live in the VM.")
    if len(asked) > _MOST:
        raise UsageError(f"{len(asked)} directories cannot be shared", hint=f"Share at most {_MOST}, or what is around them.")
    if policy is None:
        raise UsageError("this image has no policy, and so shares nothing", hint=f"Boot another profile. {_OFF}")
    found = [_checked(text, policy, variables) for text in asked]
    _refuse_nested(found)
    return Choice(_tagged(found), variables)


def _default(policy: Policy | None, variables: dict[str, str]) -> Choice:
    if policy is None or sys.platform != "linux":
        return Choice()
    home = str(Path.home())
    if _allowed(home, policy, variables):
        wanted = [home]
    else:
        wanted = [path for path in shares.expanded(policy.shares_default, variables) if path]
    found: list[Share] = []
    notes: list[str] = []
    for path in dict.fromkeys(wanted):
        if reason := _reason(path):
            notes.append(f"{path} is not shared: {reason}")
        elif any(is_below(path, each.path) or is_below(each.path, path) for each in found):
            continue
        elif len(found) == _MOST:
            notes.append(f"{path} is not shared: {_MOST} others are")
        else:
            found.append(Share(path))
    return Choice(_tagged(found), variables, tuple(notes))


def private_directories(path: str) -> list[Path]:
    """Directories of ours in a shared one: images, disks, keys, settings and sockets, which no container may see."""
    ours = _ours()
    found = [each for each in ours if is_below(each, os.path.realpath(path))]
    # One in another is covered with it, and is not there to be covered once more.
    return [Path(each) for each in found if not any(is_below(each, other) for other in found if other != each)]


def _ours() -> list[str]:
    return sorted({os.path.realpath(each) for each in (state_home(), cache_home(), runtime_dir())})


def _checked(text: str, policy: Policy, variables: dict[str, str]) -> Share:
    text = share_text(text)
    path = text.removesuffix(":ro")
    if reason := _reason(path):
        raise UsageError(f"--share {path}: {reason}", hint=f"Name another directory. {_OFF}")
    if not _allowed(path, policy, variables):
        folders = ", ".join(policy.shares or ()) or "none"
        hint = f"The policy lets these be shared: {folders}. `inv policy.show` shows it."
        raise UsageError(f"--share {path}: {_FOLDERS} of the policy does not have it", hint=hint)
    return Share(path, text.endswith(":ro"))


def _allowed(path: str, policy: Policy, variables: dict[str, str]) -> bool:
    """Whether the policy has a directory, and what it is behind its links: a link in an allowed one leads nowhere else."""
    if policy.shares is None:
        return True
    real = [os.path.realpath(each) for each in shares.expanded(policy.shares, variables) if each]
    return shares.allowed(path, policy.shares, variables) and shares.allowed(os.path.realpath(path), real, {})


def _reason(path: str) -> str:
    """Why a directory of this machine cannot be shared; empty when it can."""
    if problem := shares.problem(path):
        return problem
    if not Path(path).is_dir():
        return "there is no such directory"
    real = os.path.realpath(path)
    if any(is_below(real, each) for each in _ours()):
        return "it holds machines and images, which no container may see"
    return ""


def _refuse_nested(found: Sequence[Share]) -> None:
    # A container gets one mount, without what is mounted below it: the inner one's own `ro` would be lost.
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            if is_below(one.path, other.path) or is_below(other.path, one.path):
                raise UsageError(f"--share {one.path} and --share {other.path}: one is in the other", hint="Name one of them.")


def _tagged(found: Sequence[Share]) -> tuple[Share, ...]:
    return tuple(Share(each.path, each.read_only, f"share{number}") for number, each in enumerate(found))


def _variables() -> dict[str, str]:
    temporary = tempfile.gettempdir()
    return {"$HOME": str(Path.home()), "$TMP": os.environ.get("TMP", temporary), "$TEMP": os.environ.get("TEMP", temporary)}
