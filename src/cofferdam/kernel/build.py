"""Builds the kernel: source, configuration, compilation, each a cached stage."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from cofferdam.cache import Stage, digest, file_digest
from cofferdam.errors import BuildError
from cofferdam.kernel.config import TREE, make_config, unpack
from cofferdam.kernel.source import KernelSource, cached_source, locked_source, resolve
from cofferdam.profile import Profile
from cofferdam.progress import Progress
from cofferdam.run import CommandError
from cofferdam.tools.failures import require_space
from cofferdam.tools.lock import Pinned
from cofferdam.tools.tree import ToolsTree

_VERSION = 1
"""To be raised when this module builds the kernel in another way."""

_SPACE_MIB = 4000
_IMAGE = "arch/x86/boot/bzImage"
_ERROR = re.compile(r"error:|undefined reference|\*\*\* \[")


@dataclass(frozen=True)
class Kernel:
    """A built kernel.

    Attributes:
        path: the bootable image (`vmlinuz`).
        config: its configuration.
        version: its release, as `uname -r` prints it.
        config_sha256: of the configuration file.
    """

    path: Path
    config: Path
    version: str
    config_sha256: str


def ensure_source(
    profile: Profile, tools: ToolsTree, progress: Progress, refresh: bool = False, pinned: Pinned | None = None
) -> KernelSource:
    """The kernel source of a profile, from the cache when it was resolved before.

    Args:
        refresh: ask the suites again.
        pinned: the lock that holds instead of what the suites offer.

    Raises:
        BuildError: see `source.resolve` and `source.locked_source`.
    """
    if pinned is not None:
        return locked_source(pinned, tools, progress)
    suites = profile.kernel.suites
    if not refresh and (source := cached_source(suites)) is not None:
        progress.cached("kernel-source", f"{source.package} {source.version} of {source.suite}")
        return source
    return resolve(suites, tools, progress)


def build_kernel(profile: Profile, tools: ToolsTree, source: KernelSource, progress: Progress) -> Kernel:
    """The kernel of a profile, compiled when the cache does not hold it.

    Raises:
        FragmentError, AuditError: its configuration is wrong.
        BuildError: it does not compile, the disk is full, …
    """
    config = make_config(profile.kernel, source, tools, progress)
    for warning in config.warnings:
        progress.line(f"kernel-config  note: {warning}")
    inputs = {"source": source.sha256, "config": file_digest(config.path), "tools": tools.key, "version": _VERSION}
    stage = Stage("kernel", digest(inputs))
    directory = stage.build(lambda work, log: _make(source, config.path, tools, work, log, progress), progress, source.version)
    facts = json.loads((directory / "build.json").read_text(encoding="utf-8"))
    return Kernel(directory / "vmlinuz", directory / "config", facts["release"], facts["config_sha256"])


def reproducible_environment(epoch: int) -> dict[str, str]:
    """Variables that take the builder, the host and the day out of the kernel's banner.

    Args:
        epoch: time stamp in seconds; the source's own.
    """
    return {
        "SOURCE_DATE_EPOCH": str(epoch),
        "KBUILD_BUILD_TIMESTAMP": f"@{epoch}",
        "KBUILD_BUILD_USER": "cofferdam",
        "KBUILD_BUILD_HOST": "cofferdam",
        "KBUILD_BUILD_VERSION": "1",
    }


def _make(source: KernelSource, config: Path, tools: ToolsTree, work: Path, log: Path, progress: Progress) -> None:
    require_space(work, _SPACE_MIB, "kernel")
    started = time.monotonic()
    unpack(source, tools, work, log)
    tree = work / TREE
    shutil.copyfile(config, tree / ".config")
    environment = reproducible_environment(int((tree / "Makefile").stat().st_mtime))
    jobs = len(os.sched_getaffinity(0))
    progress.step(f"kernel: compiling {source.version} on {jobs} processors, a quarter of an hour on two")
    make = ["make", f"--directory=/build/{TREE}"]
    try:
        tools.run([*make, f"-j{jobs}", "bzImage"], binds={work: "/build"}, env=environment, log=log)
    except CommandError as error:
        raise BuildError(f"the kernel does not compile: {first_error(log)}", hint="See the log.", log=log) from error
    release = tools.run([*make, "-s", "kernelrelease"], binds={work: "/build"}, env=environment, capture=True).stdout.strip()
    for result, name in ((tree / _IMAGE, "vmlinuz"), (tree / "System.map", "System.map"), (tree / ".config", "config")):
        shutil.copyfile(result, work / name)
    facts = {
        "release": release,
        "package": source.package,
        "version": source.version,
        "suite": source.suite,
        "source_sha256": source.sha256,
        "config_sha256": file_digest(work / "config"),
        "tools": tools.key,
        "bytes": (work / "vmlinuz").stat().st_size,
        "seconds": round(time.monotonic() - started),
    }
    (work / "build.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    tools.run(["rm", "-r", f"/build/{TREE}"], binds={work: "/build"}, log=log)


def first_error(log: Path) -> str:
    """The first line of a build log that tells of an error; with parallel jobs it is rarely the last one."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        return next((line.strip() for line in lines if _ERROR.search(line)), "no error line in the log")
