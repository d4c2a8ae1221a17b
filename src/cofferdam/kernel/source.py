"""The kernel's source: Debian's newest `linux-source-X.Y` of the first suite that has a capable one.

A suite keeps one version only and replaces it without notice, so nothing is pinned here: what the suite offers is taken, its
checksum compared with apt's signed metadata, and the capability looked for in the source itself. What was found is recorded in
the cache; later builds use that record and need no network until a refresh is asked for.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cofferdam.cache import Stage, digest, file_digest, remove_tree, write_text
from cofferdam.errors import BuildError
from cofferdam.kernel.apt import Apt, Candidate, ChecksumError, PackageGoneError
from cofferdam.paths import cache_home
from cofferdam.progress import Progress
from cofferdam.run import CommandError
from cofferdam.tools.lock import Pinned
from cofferdam.tools.packages import Archive, Contents, Package
from cofferdam.tools.store import available, store_path
from cofferdam.tools.tree import ToolsTree

STAGE = "kernel-source"
CAPABILITY_FILE = "fs/overlayfs/super.c"
_DRIVER = re.compile(r"struct file_system_type ovl_fs_type\s*=\s*\{(.*?)\};", re.DOTALL)


class NoCapableSourceError(BuildError):
    """No suite has a kernel source whose overlayfs accepts an idmapped mount."""


@dataclass(frozen=True)
class KernelSource:
    """A kernel source in the cache.

    Attributes:
        version: Debian's version of the package, e.g. `7.3.4-1~bpo13+1`.
        package: its name, e.g. `linux-source-7.3`.
        suite: where it came from.
        sha256: of the package file, equal to the one in apt's metadata.
        tarball: the source as packed by Debian (`linux-source-X.Y.tar.xz`).
    """

    version: str
    package: str
    suite: str
    sha256: str
    tarball: Path


def accepts_idmapped_overlay(super_c: str) -> bool:
    """Whether overlayfs, by the text of its `super.c`, lets an idmap be put on an overlay mount (first kernel: 7.0)."""
    match = _DRIVER.search(super_c)
    return match is not None and re.search(r"\bFS_ALLOW_IDMAP\b", match[1]) is not None


def resolution_path(suites: Sequence[str]) -> Path:
    """The record of what these suites were resolved to."""
    return cache_home() / STAGE / f"resolved-{digest(list(suites))[:12]}.json"


def cached_source(suites: Sequence[str]) -> KernelSource | None:
    """The recorded source when it is still in the cache."""
    try:
        record = json.loads(resolution_path(suites).read_text(encoding="utf-8"))
        source = KernelSource(**{**record, "tarball": Path(record["tarball"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return source if source.tarball.is_file() else None


def resolve(suites: Sequence[str], tools: ToolsTree, progress: Progress) -> KernelSource:
    """Ask the suites in order, download the first capable source and record it; see `newest_capable` for what may go wrong."""
    source = newest_capable(suites, tools, progress)
    _record(suites, source)
    return source


def newest_capable(suites: Sequence[str], tools: ToolsTree, progress: Progress) -> KernelSource:
    """Ask the suites in order and download the first capable source.

    Raises:
        NoNetworkError: the package servers cannot be reached.
        ChecksumError: what arrived is not what the metadata names.
        NoCapableSourceError: no suite has a source that will do; the message says why for each.
    """
    reasons = []
    for suite in suites:
        progress.step(f"kernel source: asking {suite}")
        try:
            with Apt(tools, suite) as apt:
                source = _from_suite(apt, apt.newest_source(), progress)
        except PackageGoneError as error:
            reasons.append(f"{suite}: {error}")
            continue
        if source is not None:
            return source
        reasons.append(f"{suite}: its newest kernel source has an overlayfs without idmapped mounts")
    raise NoCapableSourceError(
        "no kernel source will do:\n" + "\n".join(reasons),
        hint="Name another suite in `kernel.suites` of the profile: it needs a linux-source of 7.0 or later.",
    )


def _from_suite(apt: Apt, candidate: Candidate, progress: Progress) -> KernelSource | None:
    """The candidate, downloaded; None when it lacks the capability."""
    return _cached(candidate, lambda work, log: _fetch(apt, candidate, work, log), progress)


def _cached(candidate: Candidate, make: Callable[[Path, Path], None], progress: Progress) -> KernelSource | None:
    """The candidate from the cache, or made; None when it lacks the capability."""
    stage = Stage(STAGE, digest({"package": candidate.package, "sha256": candidate.sha256}))
    if stage.ready and not any(stage.path.glob("*.tar.*")):
        remove_tree(stage.path)
    directory = stage.build(make, progress, f"{candidate.package} {candidate.version}")
    facts = json.loads((directory / "source.json").read_text(encoding="utf-8"))
    if not facts["idmapped_overlay"]:
        return None
    return KernelSource(candidate.version, candidate.package, candidate.suite, candidate.sha256, directory / facts["tarball"])


def locked_source(pinned: Pinned, tools: ToolsTree, progress: Progress) -> KernelSource:
    """The source that is locked, whatever the suites offer.

    Raises:
        BuildError: it is not to be had, or it lacks the capability.
    """
    candidate = locked_candidate(pinned.contents)
    source = _cached(candidate, lambda work, log: _fetch_locked(pinned, candidate, tools, work, log), progress)
    if source is None:
        raise NoCapableSourceError(
            f"the locked {candidate.package} has an overlayfs without idmapped mounts", hint="Run `inv lock --update`."
        )
    return source


def locked_candidate(contents: Contents) -> Candidate:
    """The kernel source of a lock; its size is not known.

    Raises:
        BuildError: the lock names another number of packages or suites than one.
    """
    if len(contents.packages) != 1 or len(contents.archives) != 1:
        raise BuildError("vm/lock/kernel.json must name one package of one suite", hint="Run `inv lock --update`.")
    package, suite = contents.packages[0], contents.archives[0].codename
    return Candidate(package.name, package.version, suite, package.sha256, 0)


def lock_contents(source: KernelSource) -> Contents:
    """What is to be locked of a source."""
    package = Package(name=source.package, version=source.version, architecture="all", source="linux", sha256=source.sha256)
    archive = Archive(origin="Debian", suite=source.suite, codename=source.suite, version="", date="")
    return Contents(packages=[package], archives=[archive])


def locked_file(pinned: Pinned, tools: ToolsTree, log: Path) -> dict[Package, Path]:
    """The locked source's package file.

    Raises:
        BuildError: it is not to be had.
    """
    candidate = locked_candidate(pinned.contents)

    def fetch(packages: Sequence[Package]) -> None:
        store = store_path(packages[0]).parent
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store, prefix=".fetch-") as name, suppress(PackageGoneError):
            with Apt(tools, candidate.suite) as apt:
                path = apt.download(candidate, Path(name), log)
            path.replace(store / f"{file_digest(path)}.deb")

    return available(pinned, candidate.suite, fetch)


def _fetch_locked(pinned: Pinned, candidate: Candidate, tools: ToolsTree, work: Path, log: Path) -> None:
    (path,) = locked_file(pinned, tools, log).values()
    package = work / f"{candidate.package}.deb"
    shutil.copyfile(path, package)
    _unpack(tools, package, replace(candidate, size=package.stat().st_size), work, log)


def _fetch(apt: Apt, candidate: Candidate, work: Path, log: Path) -> None:
    package = apt.download(candidate, work, log)
    actual = file_digest(package)
    if actual != candidate.sha256:
        raise ChecksumError(
            f"{candidate.package} {candidate.version}: sha256 is {actual}, {candidate.suite} says {candidate.sha256}",
            hint="Run again; if it stays, a proxy or a mirror between here and Debian changes files.",
        )
    _unpack(apt.tools, package, candidate, work, log)


def _unpack(tools: ToolsTree, package: Path, candidate: Candidate, work: Path, log: Path) -> None:
    tarball = f"{candidate.package}.tar.xz"
    binds = {work: "/build"}
    tools.run(["dpkg-deb", "--extract", f"/build/{package.name}", "/build/deb"], binds=binds, log=log)
    (work / "deb/usr/src" / tarball).rename(work / tarball)
    tools.run(["rm", "-r", "/build/deb", f"/build/{package.name}"], binds=binds, log=log)
    facts = {**asdict(candidate), "tarball": tarball, "idmapped_overlay": _capable(tools, work, tarball, candidate)}
    (work / "source.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _capable(tools: ToolsTree, work: Path, tarball: str, candidate: Candidate) -> bool:
    member = f"{candidate.package}/{CAPABILITY_FILE}"
    try:
        text = tools.run(
            ["tar", "--extract", "--to-stdout", "--file", f"/build/{tarball}", member], binds={work: "/build"}, capture=True
        )
    except CommandError as error:
        raise BuildError(
            f"{candidate.package}: cannot read {member}: {error.tail}", hint="Report it: the package has changed shape."
        ) from error
    return accepts_idmapped_overlay(text.stdout)


def _record(suites: Sequence[str], source: KernelSource) -> None:
    write_text(resolution_path(suites), json.dumps({**asdict(source), "tarball": str(source.tarball)}, indent=2) + "\n")
