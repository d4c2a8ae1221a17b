"""Checks a release folder: everything that is in it, against a signature of somebody who is trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from cofferdam.errors import CofferdamError
from cofferdam.paths import ROOT
from cofferdam.release.manifest import MANIFEST, PACKAGES, PROVENANCE, SIGNATURE, SUMS, ReleaseManifest
from cofferdam.release.provenance import Statement
from cofferdam.release.sbom import check_sbom
from cofferdam.release.signature import SignatureRefusedError, allowed_signers, check
from cofferdam.release.sums import FolderError, compare, contents, parse_sums

DEFAULT_KEY = ROOT / "vm/allowed_signers"
_LARGEST = 1 << 26
"""No file that is read as a whole is larger: 64 MiB."""


class NotVerifiedError(CofferdamError):
    """A release folder that must not be used."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, whether it is right, and what was seen."""

    name: str
    ok: bool
    found: str

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


@dataclass
class _Folder:
    """What the checks have learnt so far; a check that needs what an earlier one did not give fails itself."""

    path: Path
    key: Path
    read: dict[str, str] = field(default_factory=dict)
    sums: Mapping[str, str] = field(default_factory=dict)
    manifest: ReleaseManifest | None = None

    def text(self, name: str) -> str:
        """A file, read once: what is signed, summed and believed is the same, whoever changes the file meanwhile."""
        if name not in self.read:
            self.read[name] = self._read(name)
        return self.read[name]

    def _read(self, name: str) -> str:
        path = self.path / name
        if path.is_symlink() or not path.is_file():
            raise FolderError(f"{name} is missing")
        if path.stat().st_size > _LARGEST:
            raise FolderError(f"{name} is too large")
        data = path.read_bytes()
        if name in self.sums and sha256(data).hexdigest() != self.sums[name]:
            raise FolderError(f"{name} is not the file that was released")
        return data.decode("utf-8")

    def known(self) -> ReleaseManifest:
        if self.manifest is None:
            raise FolderError(f"there is no {MANIFEST} to compare with")
        return self.manifest


def verify(folder: Path, key: Path | None = None) -> list[Check]:
    """Check a release folder; every check is made, whatever the others found.

    Args:
        folder: the folder.
        key: allowed_signers file of who makes the releases; the project's own when not given.

    Raises:
        NotVerifiedError: it is no directory.
    """
    return _verified(folder, key)[0]


def trusted(folder: Path, key: Path | None = None) -> ReleaseManifest:
    """The manifest of a release folder that is right in every respect.

    Raises:
        NotVerifiedError: it is not; the message says why.
    """
    checks, manifest = _verified(folder, key)
    if wrong := [each for each in checks if not each.ok]:
        lines = "\n".join(f"{each.name}: {each.found}" for each in wrong)
        raise NotVerifiedError(f"{folder} cannot be trusted:\n{lines}", hint="Do not use it; download it again.")
    assert manifest is not None
    return manifest


def _verified(folder: Path, key: Path | None) -> tuple[list[Check], ReleaseManifest | None]:
    """Every check, and the manifest that they were made with."""
    if not folder.is_dir():
        raise NotVerifiedError(f"{folder} is not a directory", hint="Name the folder of a release.")
    state = _Folder(folder, key or DEFAULT_KEY)
    return [_checked(name, look, state) for name, look in _CHECKS], state.manifest


def _checked(name: str, look: Callable[[_Folder], str], state: _Folder) -> Check:
    try:
        return Check(name, True, look(state))
    except (ValidationError, SignatureRefusedError, ValueError, OSError) as error:
        # Names of files are in it, and nobody knows who has chosen them: none may speak to the terminal.
        text = "".join(each if each.isprintable() else "?" for each in " ".join(str(error).split()))
        return Check(name, False, text[:300])


def _files(state: _Folder) -> str:
    return f"{len(contents(state.path))} ordinary files"


def _signature(state: _Folder) -> str:
    signers = allowed_signers(state.key)
    return f"by {check(state.text(SUMS).encode(), state.text(SIGNATURE), signers).principal}"


def _sums(state: _Folder) -> str:
    state.sums = parse_sums(state.text(SUMS))
    _require(compare(state.path, state.sums))
    return f"{len(state.sums)} files are what they were"


def _manifest(state: _Folder) -> str:
    state.manifest = manifest = ReleaseManifest.model_validate_json(state.text(MANIFEST))
    named = manifest.files()
    sizes = [each.name for each in manifest.artefacts if _size(state.path / each.name) != each.size]
    others = {name for name in state.sums if not name.startswith(f"{PACKAGES}/")} - {*named, MANIFEST, PROVENANCE}
    _require(f"{name} has another name than its kind gives, or stands there twice" for name in manifest.misnamed())
    _require(f"{name} is not the one in {SUMS}" for name, expected in named.items() if state.sums.get(name) != expected)
    _require(f"{name} has another size" for name in sizes)
    _require(f"{name} is not in {MANIFEST}" for name in sorted(others))
    return f"version {manifest.version}, {len(manifest.artefacts)} artefacts"


def _provenance(state: _Folder) -> str:
    statement, manifest = Statement.model_validate_json(state.text(PROVENANCE)), state.known()
    expected = {*manifest.files(), MANIFEST}
    if statement.subjects() != {name: value for name, value in state.sums.items() if name in expected}:
        raise FolderError(f"its subjects are not what {SUMS} says")
    if statement.commit() != manifest.commit:
        raise FolderError(f"it names the commit {statement.commit()}, {MANIFEST} names {manifest.commit}")
    return f"commit {manifest.commit[:12]}, {len(statement.predicate.buildDefinition.resolvedDependencies)} dependencies"


def _sboms(state: _Folder) -> str:
    manifest = state.known()
    for each in manifest.sboms:
        _require(f"{each.name}: {line}" for line in check_sbom(state.text(each.name), each.format))
    present = {(each.profile, each.format) for each in manifest.sboms}
    wanted = {(each.profile, kind) for each in manifest.artefacts for kind in ("cyclonedx", "spdx")}
    _require(f"profile {profile} has no {kind}" for profile, kind in sorted(wanted - present))
    return f"{len(manifest.sboms)} of {len({each.profile for each in manifest.artefacts})} profiles"


_CHECKS: tuple[tuple[str, Callable[[_Folder], str]], ...] = (
    ("files", _files),
    ("signature", _signature),
    ("sums", _sums),
    ("manifest", _manifest),
    ("provenance", _provenance),
    ("sbom", _sboms),
)


def _require(wrong: Any) -> None:
    if lines := list(wrong):
        raise FolderError("; ".join(lines))


def _size(path: Path) -> int:
    return path.lstat().st_size if path.exists() else -1
