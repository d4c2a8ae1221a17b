"""The small Debian tree that virtiofsd is run from on machines that have none."""

from __future__ import annotations

from pathlib import Path

from cofferdam.cache import Stage, digest
from cofferdam.progress import Progress
from cofferdam.run import run
from cofferdam.tools.debian import make_tree
from cofferdam.tools.lock import LOCKS, VIRTIOFSD, Lock, Pinned

SUITE = "trixie"
PACKAGES = ["virtiofsd"]
_VERSION = 1
"""To be raised when the tree is made in another way."""


def current_tree(progress: Progress) -> Path:
    """The tree to run virtiofsd from: the locked one when `inv build-vm --locked` has made it, else one from the suite."""
    if (LOCKS / f"{VIRTIOFSD}.json").exists():
        pinned = Lock().pinned(VIRTIOFSD)
        if pinned.stage(_usual()).ready:
            return ensure_tree(progress, pinned)
    return ensure_tree(progress)


def ensure_tree(progress: Progress, pinned: Pinned | None = None) -> Path:
    """The tree, from the cache or made.

    Args:
        progress: where to report.
        pinned: the lock that holds instead of what the suite offers.

    Raises:
        HostError, BuildError: it cannot be made here.
    """

    def make(work: Path, log: Path) -> None:
        archive, tree = work / "tree.tar", work / "tree"
        make_tree(SUITE, archive, log, variant="extract", packages=PACKAGES, pinned=pinned)
        tree.mkdir()
        run(["tar", "-xf", archive, "-C", tree, "--no-same-owner", "--exclude=./dev/*"], log=log)
        archive.unlink()

    stage = pinned.stage(_usual()) if pinned is not None else _usual()
    return stage.build(make, progress, f"Debian {SUITE}'s virtiofsd and its libraries") / "tree"


def _usual() -> Stage:
    return Stage("virtiofsd", digest({"suite": SUITE, "version": _VERSION}))
