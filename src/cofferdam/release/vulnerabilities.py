"""Known vulnerabilities of an image, by the data of Debian's security tracker: a file in the shape of its JSON.

The file is `{SOURCE: {ID: {"description": …, "releases": {SUITE: {"status": …, "fixed_version": …, "urgency": …}}}}}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from debian.debian_support import Version

from cofferdam.errors import UsageError
from cofferdam.image.model import Manifest
from cofferdam.tools.packages import Package

URGENCIES = ("unimportant", "low", "medium", "high")
"""What the tracker says of how bad one is, least first; anything else, such as `not yet assigned`, is `unknown`."""

UNKNOWN = "unknown"
_NOT_AFFECTED = "0"
_KERNELS = "sid"
_WHERE = (
    "Download the security tracker's data (one JSON file, linked on the tracker's own pages) where there is a network, "
    "and name the file: --data FILE."
)


@dataclass(frozen=True)
class Finding:
    """A vulnerability of an installed package; without a version that mends it, there is none yet."""

    id: str
    source: str
    packages: tuple[str, ...]
    installed: str
    fixed: str
    urgency: str
    description: str

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def read_data(path: Path | None) -> Mapping[str, Any]:
    """The tracker's data.

    Raises:
        UsageError: no file was named, or it is none of the tracker's.
    """
    if path is None:
        raise UsageError("known vulnerabilities are judged by a file, and none was named", hint=_WHERE)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--data {path}: {error}", hint=_WHERE) from error
    if not isinstance(data, dict) or not all(isinstance(each, dict) for each in data.values()) or not data:
        raise UsageError(f"--data {path}: not the security tracker's data", hint=_WHERE)
    return data


def judge_image(manifest: Manifest, data: Mapping[str, Any]) -> list[Finding]:
    """The known vulnerabilities of an image: its packages in their suite, its kernel in the suite that kernels come to first.

    Raises:
        UsageError: the data are not in the tracker's shape.
    """
    version = manifest.kernel.source_version.partition("~bpo")[0]
    kernel = Package(name="linux", version=version, architecture="all", source="linux", sha256=manifest.kernel.source_sha256)
    found = [*judge(manifest.packages, manifest.root.suite, data), *judge([kernel], _KERNELS, data)]
    return sorted(found, key=lambda each: (-rank(each.urgency), each.source, each.id))


def judge(packages: Iterable[Package], suite: str, data: Mapping[str, Any]) -> list[Finding]:
    """The vulnerabilities of packages that are open in their suite, or mended in a later version than the installed one.

    Raises:
        UsageError: the data are not in the tracker's shape, or know nothing of the suite.
    """
    sources: dict[str, list[Package]] = {}
    for package in packages:
        sources.setdefault(package.source, []).append(package)
    found: list[Finding] = []
    for source, made in sources.items():
        for identifier, entry in data.get(source, {}).items():
            try:
                if (state := entry["releases"].get(suite)) is not None:
                    versions = _versions(made, state)
                    findings = (_finding(identifier, entry, state, source, version, versions[version]) for version in versions)
                    found += [each for each in findings if each is not None]
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise UsageError(f"--data: {source} {identifier}: not in the tracker's shape: {error!r}", hint=_WHERE) from error
    if not any(_speaks_of(suite, entry) for entries in data.values() for entry in entries.values()):
        raise UsageError(f"--data: it says nothing of the suite {suite}, so nothing can be judged by it", hint=_WHERE)
    return sorted(found, key=lambda each: (-rank(each.urgency), each.source, each.id))


def rank(urgency: str) -> int:
    """How bad an urgency is; the unknown one is as bad as the worst, since nobody has judged it."""
    return URGENCIES.index(urgency) if urgency in URGENCIES else len(URGENCIES) - 1


def require_urgency(word: str) -> str:
    """An urgency that was given as an option.

    Raises:
        UsageError: there is no such one.
    """
    if word not in URGENCIES:
        raise UsageError(f"--fail-on {word}: there is no such urgency", hint=f"There are: {', '.join(URGENCIES)}.")
    return word


def _finding(
    identifier: str, entry: Mapping[str, Any], state: Mapping[str, Any], source: str, version: str, names: list[str]
) -> Finding | None:
    fixed = str(state.get("fixed_version", ""))
    if state["status"] == "resolved" and (fixed == _NOT_AFFECTED or (fixed and Version(version) >= Version(fixed))):
        return None
    if state["status"] not in ("resolved", "open", "undetermined"):
        raise ValueError(f"status {state['status']}")
    urgency = str(state.get("urgency", "")).rstrip("*")
    return Finding(
        id=identifier,
        source=source,
        packages=tuple(sorted(names)),
        installed=version,
        fixed=fixed,
        # Also of what has no support any more (`end-of-life`): nobody judges that, and nobody mends it.
        urgency=urgency if urgency in URGENCIES else UNKNOWN,
        description=str(entry.get("description", ""))[:200],
    )


def _speaks_of(suite: str, entry: object) -> bool:
    releases = entry.get("releases") if isinstance(entry, dict) else None
    return isinstance(releases, dict) and suite in releases


def _versions(packages: Iterable[Package], state: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of packages by the version of their source."""
    found: dict[str, list[str]] = {}
    for package in packages:
        found.setdefault(_source_version(package.version, state), []).append(package.name)
    return found


def _source_version(version: str, state: Mapping[str, Any]) -> str:
    """The source's version of a package's: without the mark of a rebuild, and without an epoch that only the package has."""
    head, plus, tail = version.rpartition("+b")
    whole = head if plus and tail.isdigit() else version
    # util-linux 2.41 makes bsdutils 1:2.41, which would be newer than every version that mends something.
    epochs = {each.partition(":")[0] if ":" in each else "" for each in state.get("repositories", {}).values()}
    epoch, colon, bare = whole.partition(":")
    return bare if colon and epochs and epoch not in epochs else whole
