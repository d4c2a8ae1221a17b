"""Releases of a small image, each with an archive that can be booted as far as files go."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from cofferdam.image.model import RELEASED, open_image
from cofferdam.release.folder import Built, assemble
from cofferdam.release.keys import load_signing_key, new_signing_key
from vmtest.releases import COMMIT, EPOCH, make_image

Release = Callable[..., Path]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COFFERDAM_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/images"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with an image and keys."""
    make_image(tmp_path / "image")
    new_signing_key(tmp_path / "keys")
    return tmp_path


@pytest.fixture
def signers(home: Path) -> Path:
    return home / "keys/allowed_signers"


def members(image: Path) -> list[tarfile.TarInfo | tuple[str, bytes]]:
    """The files of an image, as an archive has them."""
    return [(name, (image / name).read_bytes()) for name in RELEASED if (image / name).exists()]


def archive(path: Path, entries: Iterable[tarfile.TarInfo | tuple[str, bytes]], mode: str = "w") -> Path:
    """A tar of files and of entries without contents."""
    with tarfile.open(path, mode) as tar:
        for each in entries:
            if isinstance(each, tarfile.TarInfo):
                tar.addfile(each)
                continue
            entry = tarfile.TarInfo(each[0])
            entry.size = len(each[1])
            tar.addfile(entry, io.BytesIO(each[1]))
    return path


@pytest.fixture
def release(home: Path) -> Release:
    """Makes a signed release folder: `release("1.2.0")`, of other entries or of another profile's name if wanted."""

    def make(version: str, entries: list | None = None, profile: str = "default", kind: str = "direct") -> Path:
        image = replace(open_image(home / "image"), profile=profile)
        path = archive(home / f"{version}.tar", members(home / "image") if entries is None else entries)
        return assemble(
            home / f"release-{version}",
            version=version,
            commit=COMMIT,
            epoch=EPOCH,
            built=[Built(path, profile, kind, "7.3.4-cofferdam")],
            images={profile: image},
            key=load_signing_key(home / "keys/release.key"),
        )

    return make
