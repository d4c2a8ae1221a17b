"""apt inside the tools tree, with state of its own: asks one suite for kernel sources and downloads one.

The suite's line is made from the tree's own sources by replacing the suite's name, so mirrors and keys are the tree's.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cofferdam.errors import BuildError
from cofferdam.run import CommandError, Result
from cofferdam.tools.tree import ToolsTree

_STATE = "/build"
_SOURCE = re.compile(r"linux-source-(\d+(?:\.\d+)+)")
_LINE = re.compile(r"(?P<head>deb\s+(?:\[[^\]]*\]\s+)?\S+\s+)(?P<suite>\S+)(?P<components>(?:\s+\S+)+)")
_NO_NETWORK = (
    "Temporary failure resolving",
    "Could not resolve",
    "Could not connect",
    "Unable to connect",
    "Cannot initiate the connection",
    "Connection timed out",
    "Connection failed",
    "Network is unreachable",
    "No route to host",
)
_GONE = ("does not have a Release file", "404", "no longer has a Release file", "Unable to find a source package", "Can't find")
_CHECKSUM = ("Hash Sum mismatch", "File has unexpected size", "Mirror sync in progress")


class NoNetworkError(BuildError):
    """The package servers cannot be reached."""


class PackageGoneError(BuildError):
    """The suite, or the package in it, is not there (any more)."""


class ChecksumError(BuildError):
    """A file is not the one that the signed metadata name."""


@dataclass(frozen=True)
class Candidate:
    """A package that a suite offers: name, Debian version, suite, SHA-256 of the file, size in bytes."""

    package: str
    version: str
    suite: str
    sha256: str
    size: int


def suite_line(sources: str, suite: str) -> str:
    """The apt line of a suite, made from the first line of a plain release (no `-updates` and such) among one-line sources.

    Raises:
        BuildError: there is no such line.
    """
    for line in sources.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match and not re.search(r"[-/]", match["suite"]):
            return f"{match['head']}{suite}{match['components']}"
    raise BuildError("the tools tree's apt sources name no release", hint="Remove the tools tree from the cache and build again.")


def newest(names: Iterator[str] | list[str]) -> str | None:
    """The `linux-source-X.Y` with the highest version among package names; None without one."""
    versions = {match[0]: tuple(map(int, match[1].split("."))) for name in names if (match := _SOURCE.fullmatch(name.strip()))}
    return max(versions, key=lambda name: versions[name]) if versions else None


def classify(text: str, what: str) -> BuildError:
    """The error that apt's messages stand for.

    Args:
        text: apt's output.
        what: what was tried, for the message.
    """
    lines = [line for line in text.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    detail = lines[0] if lines else "no message"
    if any(mark in text for mark in _NO_NETWORK):
        return NoNetworkError(f"{what}: no network: {detail}", hint="Connect to the network (or set http_proxy) and run again.")
    if any(mark in text for mark in _CHECKSUM):
        return ChecksumError(f"{what}: bad checksum: {detail}", hint="Run again in some minutes: the mirror may be half updated.")
    if any(mark in text for mark in _GONE):
        return PackageGoneError(f"{what}: not there: {detail}", hint="The suite has moved on: run `inv build-vm --refresh`.")
    return BuildError(
        f"{what}: {detail}", hint="See apt's message; the network, the mirror or the tree's keys are the usual causes."
    )


class Apt:
    """apt for one suite; its lists live in a temporary directory while the object is entered."""

    def __init__(self, tools: ToolsTree, suite: str) -> None:
        self.tools, self.suite = tools, suite
        self._stack = ExitStack()
        self._state = Path()

    def __enter__(self) -> Self:
        """Fetch the suite's package list."""
        try:
            self._state = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cofferdam-apt-", ignore_cleanup_errors=True))
            )
            for name in ("lists/partial", "cache/archives/partial"):
                (self._state / name).mkdir(parents=True)
            (self._state / "sources.list").write_text(suite_line(self._tree_sources(), self.suite) + "\n", encoding="utf-8")
            self._apt("apt-get", "--error-on=any", "update", what=f"package list of {self.suite}")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the lists."""
        self._stack.close()

    def newest_source(self) -> Candidate:
        """The newest `linux-source-X.Y` of the suite.

        Raises:
            PackageGoneError: it has none.
        """
        package = newest(self._apt("apt-cache", "pkgnames", "linux-source-", what="package names").stdout.splitlines())
        if package is None:
            raise PackageGoneError(
                f"{self.suite} has no linux-source package", hint="Name another suite in `kernel.suites` of the profile."
            )
        fields = _stanza(self._apt("apt-cache", "--no-all-versions", "show", package, what=package).stdout)
        try:
            return Candidate(package, fields["Version"], self.suite, fields["SHA256"], int(fields["Size"]))
        except KeyError as error:
            raise BuildError(
                f"{package} in {self.suite}: the metadata have no {error}", hint="The mirror serves incomplete metadata."
            ) from error

    def download(self, candidate: Candidate, directory: Path, log: Path) -> Path:
        """Download the package file into a directory and return its path.

        Raises:
            NoNetworkError, PackageGoneError, ChecksumError: see there.
        """
        what = f"{candidate.package} {candidate.version}"
        argv = ["apt-get", "download", f"{candidate.package}={candidate.version}"]
        self._apt(*argv, what=what, binds={directory: "/mnt"}, cwd="/mnt", log=log)
        files = sorted(directory.glob("*.deb"))
        if len(files) != 1:
            raise PackageGoneError(f"{what}: apt left {len(files)} files", hint="Run `inv build-vm --refresh`.")
        return files[0]

    def _tree_sources(self) -> str:
        etc = self.tools.path / "etc/apt"
        files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]
        return "\n".join(path.read_text(encoding="utf-8") for path in files if path.is_file())

    def _apt(
        self, *argv: str, what: str, binds: dict[Path, str] | None = None, cwd: str = "/", log: Path | None = None
    ) -> Result:
        options = {
            "Dir::Etc::SourceList": f"{_STATE}/sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": f"{_STATE}/lists",
            "Dir::Cache": f"{_STATE}/cache",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "3",
        }
        words = [argv[0], *(f"-o{name}={value}" for name, value in options.items()), *argv[1:]]
        mounts = {self._state: _STATE, **(binds or {})}
        try:
            return self.tools.run(words, binds=mounts, cwd=cwd, network=True, capture=True, log=log)
        except BuildError as error:
            raise classify(_output(error), what) from error


def _output(error: BuildError) -> str:
    """What the failed command printed; the tools tree wraps some failures in an error of its own."""
    command = error if isinstance(error, CommandError) else error.__cause__
    if isinstance(command, CommandError):
        return command.result.stdout + command.result.stderr + command.tail
    return str(error)


def _stanza(text: str) -> dict[str, str]:
    """Fields of the first paragraph of a package description."""
    first = text.split("\n\n", 1)[0]
    return dict(line.split(": ", 1) for line in first.splitlines() if ": " in line and not line.startswith(" "))
