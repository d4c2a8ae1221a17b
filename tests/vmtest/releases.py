"""An image made by hand, and a release of it, for tests that build nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cofferdam.cache import file_digest
from cofferdam.image.model import Image, Ingredients, open_image
from cofferdam.release.folder import Built, assemble
from cofferdam.release.keys import load_signing_key, new_signing_key
from cofferdam.release.manifest import SUFFIXES
from cofferdam.tools.packages import Contents, Package

COMMIT, EPOCH, VERSION = "a" * 40, 1_790_000_000, "1.2.0"

DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: crun

Files: *
Copyright: 2017-2020 Giuseppe Scrivano
License: GPL-2+

Files: src/json.c
Copyright: 2001 Ada <ada@example.org>
 2002 Grace
License: Expat or LGPL-2.1

Files: tests/*
Copyright: nobody
License: public-domain-by-hand

License: GPL-2+
 On Debian systems, see the usual place.

License: public-domain-by-hand
 Take it.
"""


def package(name: str, version: str = "1.0-1", source: str = "", architecture: str = "amd64") -> Package:
    sha256 = f"{len(name):064x}"
    return Package(name=name, version=version, architecture=architecture, source=source or name, sha256=sha256)


PACKAGES = [package("crun", "1.21-1+b2"), package("libcrun", "1.21-1", "crun"), package("odd"), package("silent", "1:2.0~rc1")]
COPYRIGHTS = {"crun": DEP5, "odd": "This is odd.\nCopyright 1999 Somebody.\nDo as you like.\n"}


def make_image(directory: Path) -> Image:
    """An image of three packages with copyright files and one without."""
    directory.mkdir()
    for name in ("vmlinuz", "root.erofs", "kernel.config"):
        (directory / name).write_text(f"the {name}")
    source = package("linux-source-7.3", "7.3.4-1~bpo13+1", "linux", "all")
    manifest = {
        "profile": "default",
        "description": "for tests",
        "isolation": "kernel",
        "ssh": False,
        "cmdline": [],
        "kernel": {
            "version": "7.3.4-cofferdam",
            "config_sha256": "c" * 64,
            "source_package": source.name,
            "source_version": source.version,
            "source_suite": "trixie-backports",
            "source_sha256": source.sha256,
        },
        "root": {"suite": "trixie", "compression": "lz4hc", "archives": []},
        "files": {path.name: {"sha256": file_digest(path), "size": path.stat().st_size} for path in directory.iterdir()},
        "packages": [each.model_dump() for each in PACKAGES],
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory / "copyrights.json").write_text(json.dumps(COPYRIGHTS))
    made = Ingredients(
        root=Contents(packages=PACKAGES, archives=[]),
        tools=Contents(packages=[package("gcc"), PACKAGES[0]], archives=[]),
        kernel=Contents(packages=[source], archives=[]),
    )
    (directory / "packages.json").write_text(made.model_dump_json())
    return open_image(directory)


def make_release(
    home: Path,
    target: Path,
    disk: bytes = b"disk",
    packages: Path | None = None,
    version: str = VERSION,
    formats: Sequence[str] = ("raw", "direct"),
    notes: str = "",
) -> Path:
    """A release of the image in `home`, signed by the key there; the artefact of `direct` holds that word, all others `disk`."""
    files = {kind: home / f"artefact{SUFFIXES[kind]}" for kind in formats}
    for kind, path in files.items():
        path.write_bytes(b"direct" if kind == "direct" else disk)
    return assemble(
        target,
        version=version,
        commit=COMMIT,
        epoch=EPOCH,
        built=[Built(path, "default", kind, "7.3.4-cofferdam", "e" * 64) for kind, path in files.items()],
        images={"default": open_image(home / "image")},
        key=load_signing_key(home / "keys/release.key"),
        packages=packages,
        notes=notes,
    )


def make_home(path: Path) -> Path:
    """A directory with an image, keys, and a release."""
    make_image(path / "image")
    new_signing_key(path / "keys")
    make_release(path, path / "release")
    return path
