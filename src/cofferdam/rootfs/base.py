"""The base of the root file system: Debian packages as they come, in a tar. Slow to make, so cached by package lists alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cofferdam.cache import Stage, digest
from cofferdam.paths import cache_home
from cofferdam.profile import Profile
from cofferdam.progress import Progress
from cofferdam.rootfs.entries import ROOTFS
from cofferdam.tools.debian import COPYRIGHTS, make_tree
from cofferdam.tools.failures import require_space
from cofferdam.tools.lists import read_list
from cofferdam.tools.lock import Pinned
from cofferdam.tools.packages import RECORD, Contents

_VERSION = 1
"""To be raised when this module makes the base in another way."""

_SPACE_MIB = 1500

# Time stamps are all the same in the image, so the compiled forms must not be compared with their sources' stamps.
_COMPILE = "chroot \"$1\" sh -c 'exec python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.*'"


_EPOCH = 1735689600
"""The day that is in `/etc/shadow` as that of the latest change of a password; 0 would say that it has to be changed."""


@dataclass(frozen=True)
class Base:
    """A finished base.

    Attributes:
        archive: the tar.
        contents: what is installed in it.
        copyrights: texts of the packages' copyright files (JSON); none in bases of earlier versions.
        key: hash of what it was made from.
    """

    archive: Path
    contents: Contents
    copyrights: Path | None
    key: str


def package_names(topics: list[str]) -> list[str]:
    """Names of the packages of the given topics, each once.

    Raises:
        BuildError: a topic has no list.
    """
    return sorted({name for topic in topics for name in read_list(ROOTFS / f"packages/{topic}.list")})


def build_base(profile: Profile, progress: Progress, stamp: str, pinned: Pinned | None = None) -> Base:
    """The base for a profile, from the cache or made by mmdebstrap.

    Args:
        profile: whose package topics and suite.
        progress: where to report.
        stamp: part of the cache key; a new one makes a new base from today's archive.
        pinned: the lock that holds instead of what the suite offers.
    """
    names = package_names(profile.packages)
    stage = Stage("base", digest({"packages": names, "suite": profile.root.suite, "stamp": stamp, "version": _VERSION}))

    stage = pinned.stage(stage) if pinned is not None else stage

    def make(work: Path, log: Path) -> None:
        require_space(cache_home(), _SPACE_MIB, "root file system")
        make_tree(
            profile.root.suite,
            work / "base.tar",
            log,
            variant="essential",
            packages=names,
            hooks=[_COMPILE],
            pinned=pinned,
            copyrights=True,
            epoch=_EPOCH,
        )

    path = stage.build(make, progress, f"Debian {profile.root.suite}, {len(names)} packages and what they need")
    contents = Contents.model_validate_json((path / RECORD).read_text(encoding="utf-8"))
    texts = path / COPYRIGHTS
    return Base(path / "base.tar", contents, texts if texts.exists() else None, stage.key)
