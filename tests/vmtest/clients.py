"""Docker programs of several years, as Debian's suites have them, each with the plugins that came with it."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from cofferdam.cache import Stage, digest
from cofferdam.progress import Progress
from cofferdam.tools.bootstrap import bootstrap
from vmtest.vm import DockerProgram

_VERSION = 1
_PLUGINS = "usr/libexec/docker/cli-plugins"


@dataclass(frozen=True)
class Client:
    """Where a docker program comes from: a Debian suite and its packages.

    Attributes:
        moving: the suite is not released: its packages change, and at times it cannot be had.
    """

    suite: str
    packages: tuple[str, ...]
    moving: bool = False

    @property
    def plugins(self) -> bool:
        """Whether buildx and compose came with it."""
        return len(self.packages) > 1


CLIENTS = {
    "20.10": Client("bookworm", ("docker.io",)),
    "newest": Client("forky", ("docker-cli", "docker-buildx", "docker-compose"), moving=True),
}


def client_program(name: str, directory: Path, progress: Progress) -> DockerProgram:
    """A docker program, from the cache or fetched now.

    Args:
        name: a key of CLIENTS.
        directory: for its configuration.
    """
    wanted = CLIENTS[name]

    def make(work: Path, log: Path) -> None:
        packed = work / "tree.tar"
        # a mirror may lag behind a suite that moves; these programs go into no image
        apt = ('Acquire::Check-Valid-Until "false"',) if wanted.moving else ()
        bootstrap(wanted.suite, packed, log, variant="extract", packages=wanted.packages, apt=apt)
        with tarfile.open(packed) as archive:
            names = [each for each in archive if each.name == "./usr/bin/docker" or each.name.startswith(f"./{_PLUGINS}/")]
            archive.extractall(work, members=names, filter="tar")
        packed.unlink()

    parts = {"suite": wanted.suite, "packages": wanted.packages, "version": _VERSION}
    tree = Stage("test-clients", digest(parts)).build(make, progress, f"docker {name}")
    config = directory / f"docker-{name}"
    config.mkdir(parents=True, exist_ok=True)
    (config / "config.json").write_text(json.dumps({"cliPluginsExtraDirs": [str(tree / _PLUGINS)]}), encoding="utf-8")
    return DockerProgram(tree / "usr/bin/docker", config)
