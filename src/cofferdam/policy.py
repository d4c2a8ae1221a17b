"""Policies on the host: checked before anything is built or booted with them, by the code that reads them in the guest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cofferdam.errors import UsageError
from cofferdam.guestconfig import AdminFile, Effective, admin, effective
from cofferdam.guestconfig import findings as levels
from cofferdam.paths import ROOT
from cofferdam.profile import Profile

BOOT_LIMIT = 32 * 1024
"""Bytes of a policy handed over at boot. All SMBIOS strings of a machine have 64 KiB together, and base64 takes a third more."""

_HINT = "docs/policy.md explains every key; `inv policy.check FILE` checks a file."


class PolicyFileError(UsageError):
    """A policy that cannot be used; the message holds all its errors as FILE:LINE:COLUMN."""


@dataclass(frozen=True)
class PolicyFile:
    """A file that was read.

    Attributes:
        name: its path as the user gave it.
        data: its bytes.
        found: settings and findings.
    """

    name: str
    data: bytes
    found: AdminFile

    def lines(self, *kinds: str) -> list[str]:
        """Findings of these levels, or of all, as FILE:LINE:COLUMN: LEVEL: KEY: MESSAGE."""
        return [each.text(self.name) for each in self.found.findings if not kinds or each.level in kinds]

    def require_good(self) -> PolicyFile:
        """Itself. Raises PolicyFileError with every error when there is one."""
        if self.found.settings is None:
            raise PolicyFileError("\n".join(["the policy cannot be used:", *self.lines(levels.ERROR)]), hint=_HINT)
        return self


def read_policy(path: Path) -> PolicyFile:
    """Read and check a file. Raises PolicyFileError when it cannot be read; what is wrong inside is in the findings."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PolicyFileError(f"{path}: {error.strerror}", hint="Name a readable file.") from error
    return PolicyFile(str(path), data, admin.read(data))


def profile_policy(profile: Profile, directory: Path | None = None) -> PolicyFile:
    """The policy that a profile bakes into its image, good.

    Args:
        profile: the recipe.
        directory: where profiles lie; the project's own when not given.

    Raises:
        PolicyFileError: it is not there, or has errors.
    """
    return read_policy((directory or ROOT / "profiles") / profile.policy).require_good()


def boot_policy(path: Path) -> PolicyFile:
    """A policy to be handed over at boot, good and small enough. Raises PolicyFileError."""
    policy = read_policy(path).require_good()
    if len(policy.data) > BOOT_LIMIT:
        message = f"{path}: {len(policy.data)} bytes; at boot a policy may have {BOOT_LIMIT}"
        raise PolicyFileError(message, hint="Shorten it, or bake it into an image: key `policy` of a profile (docs/policy.md).")
    return policy


def joined(baked: PolicyFile | None, boot: PolicyFile | None = None) -> Effective:
    """What holds in a machine whose image has the one file and that is booted with the other; both are good."""
    return effective(baked.found.settings if baked else None, boot.found.settings if boot else None)


def check_json(policy: PolicyFile) -> dict[str, Any]:
    """What a check found, for scripts."""
    return {"file": policy.name, "ok": not policy.found.errors, "findings": [asdict(each) for each in policy.found.findings]}


def show_json(result: Effective, files: Sequence[PolicyFile]) -> dict[str, Any]:
    """An effective policy, for scripts."""
    values = {key: value for key, value in asdict(result.policy).items() if key != "sha256"}
    return {"sha256": result.policy.sha256, "files": [each.name for each in files], "policy": values, "notes": list(result.notes)}


def show_lines(result: Effective, files: Sequence[PolicyFile]) -> list[str]:
    """An effective policy, for people; the hash is what `docker info` shows the start of."""
    values = show_json(result, files)["policy"]
    width = max(len(key) for key in values)
    lines = [f"{key:{width}}  {json.dumps(value)}" for key, value in values.items()]
    notes = [f"note: {note}" for note in result.notes]
    names = " and ".join(each.name for each in files)
    return [f"# Effective policy from {names}", *lines, *notes, f"{'sha256':{width}}  {result.policy.sha256}"]
