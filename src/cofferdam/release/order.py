"""What a release is asked to be, judged before anything is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cofferdam.bench.model import Report
from cofferdam.checkout import Checkout, ignored, project_version, read_checkout
from cofferdam.errors import BuildError, UsageError
from cofferdam.image.formats import DIRECT, FORMATS
from cofferdam.image.signing import Signer
from cofferdam.paths import ROOT
from cofferdam.profile import load_profile
from cofferdam.release.signature import SignatureRefusedError, allowed_signers, check, sign
from cofferdam.release.testreport import judge_report
from cofferdam.release.verify import DEFAULT_KEY
from cofferdam.tools.lock import IMAGE_TOOLS, KERNEL_SOURCE, TOOLS, Lock, root_tree

RELEASES = ROOT / "releases"
"""Where releases are made when no other place is named; git leaves it alone."""

UNRELEASED = "Unreleased"
_VERSION = re.compile(r"(\d+\.\d+\.\d+)(?:-[0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*)?")


@dataclass(frozen=True)
class Source:
    """What is released: the checkout, and what the changelog says of this version."""

    checkout: Checkout
    changes: str


@dataclass(frozen=True)
class Order:
    """A release that can be made.

    Attributes:
        version: of the release.
        source: what it is made from.
        profiles: whose images.
        formats: of each image.
        target: the folder that it becomes.
        lock: the packages that it is made from.
        key: what signs it; none when it is not brought to its end.
        tests: report of a run of all tests elsewhere; none runs them.
        bench: results of `inv bench` elsewhere; none measures.
        packages: whether the package files go with it.
        signer: who signs disks for Secure Boot; none leaves them unsigned.
    """

    version: str
    source: Source
    profiles: tuple[str, ...]
    formats: tuple[str, ...]
    target: Path
    lock: Lock
    key: Ed25519PrivateKey | None = None
    tests: Path | None = None
    bench: Path | None = None
    packages: bool = False
    signer: Signer | None = None

    def signed(self, kind: str) -> Signer | None:
        """Who signs the artefact of a format; nobody where nothing is signed."""
        return self.signer if kind != DIRECT else None

    @property
    def work(self) -> Path:
        """Where the steps leave what they have made, until the release is done."""
        return self.target.with_name(f"{self.target.name}.work")


def require_source(version: str, root: Path = ROOT) -> Source:
    """What a version is released from.

    Raises:
        UsageError: no such version by the project or the changelog, or the tree is not as committed.
        HostError: this is no git checkout.
    """
    match, own = _VERSION.fullmatch(version), project_version(root)
    if match is None:
        raise UsageError(
            f"`{version}` is no version", hint="Write MAJOR.MINOR.PATCH, with -rc1 or the like behind it for a trial."
        )
    if match[1] != own:
        raise UsageError(f"the project calls itself {own}, not {match[1]}", hint="Set `version` in pyproject.toml, and commit.")
    changes = changelog_section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    return Source(require_clean(read_checkout(root)), changes)


def require_clean(found: Checkout, commit: str = "") -> Checkout:
    """A checkout that is exactly a commit.

    Args:
        found: the checkout.
        commit: which one it has to be; any when empty.

    Raises:
        UsageError: it is not.
    """
    if found.changed:
        lines = "\n".join(found.changed[:10]) + ("\n…" if len(found.changed) > 10 else "")
        raise UsageError(f"the tree is not as committed:\n{lines}", hint="Commit, stash or remove them: see `git status`.")
    if commit and found.commit != commit:
        raise UsageError(f"the checkout was at {commit[:12]} and is at {found.commit[:12]} now", hint="Begin again.")
    return found


def changelog_section(text: str, version: str) -> str:
    """What the changelog says of a version; of one with a `-`, which is a trial, what is not released yet, if it has no section.

    Raises:
        UsageError: nothing.
    """
    heads = list(re.finditer(r"^## \[([^\]]+)\].*$", text, re.M))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    sections = {head[1]: text[head.end() : end].strip() for head, end in zip(heads, ends, strict=True)}
    found = sections.get(version) or (sections.get(UNRELEASED) if "-" in version else "")
    if not found:
        raise UsageError(
            f"CHANGELOG.md says nothing of {version}",
            hint=f"Turn its `## [{UNRELEASED}]` into `## [{version}] - DATE`, and commit.",
        )
    return re.sub(r"^\[[^\]]+\]: \S+$", "", found, flags=re.M).strip()


def require_recipes(profiles: tuple[str, ...], formats: tuple[str, ...], lock: Lock) -> None:
    """Refuse what cannot be released.

    Raises:
        UsageError: no such format, or a profile that lets people in or does not isolate.
        ProfileError: no such profile.
        BuildError: a tree is not locked.
    """
    if wrong := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"--format {wrong[0]}: there is no such format", hint=f"There are: {', '.join(FORMATS)}.")
    for name in profiles:
        recipe = load_profile(name)
        if recipe.ssh or recipe.isolation == "none":
            why = "has ssh keys that are in its image" if recipe.ssh else "isolates nothing"
            raise UsageError(f"profile `{name}` {why}", hint="Release another one; `default` is meant for it.")
    for tree in (TOOLS, IMAGE_TOOLS, KERNEL_SOURCE, *map(root_tree, profiles)):
        lock.pinned(tree)


def require_place(target: Path) -> None:
    """Refuse a folder that is there, or that git would take for a part of the project.

    Raises:
        UsageError: it is.
    """
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} is there already", hint="Releases are never replaced: choose another version or --out.")
    if not ignored(target):
        raise UsageError(f"{target} is inside the project", hint="Name another directory: --out DIR.")


def require_signature(key: Ed25519PrivateKey | None) -> Ed25519PrivateKey:
    """The key, if there is one.

    Raises:
        UsageError: there is none.
    """
    if key is None:
        hint = "Name it: --key FILE. `inv keys.new DIR` makes one."
        raise UsageError("a release has to be signed, and no key was named", hint=hint)
    return key


def require_key(key: Ed25519PrivateKey, signers: Path = DEFAULT_KEY) -> None:
    """Refuse a key whose signature nobody would accept.

    Raises:
        UsageError: the project's own list of signers does not have it.
    """
    if not signers.exists():
        return
    try:
        check(b"", sign(b"", key), allowed_signers(signers))
    except SignatureRefusedError as error:
        raise UsageError(
            f"{signers} does not have this key: {error}", hint="Sign with the right key, or add this one there."
        ) from error


def require_reports(tests: Path | None, bench: Path | None, commit: str) -> None:
    """Refuse reports of runs elsewhere that are no proof: now, and not after an hour.

    Raises:
        TestsRefusedError: the tests'.
        UsageError: the bench's.
    """
    if tests is not None:
        judge_report(tests, commit)
    if bench is not None:
        read_bench(bench)


def read_bench(path: Path) -> Report:
    """Results of `inv bench`.

    Raises:
        UsageError: they cannot be read.
    """
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}", hint="Name the latest.json that `inv bench` writes.") from error


def require_kernel(report: Report, kernel: str) -> None:
    """Refuse figures of another kernel.

    Raises:
        BuildError: they are.
    """
    if report.kernel != kernel:
        raise BuildError(f"the figures are of the kernel {report.kernel}, not of {kernel}", hint="Run `inv bench` again.")
