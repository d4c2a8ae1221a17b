"""An image made by hand, and a release of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cofferdam.image.model import Image
from vmtest.releases import make_home, make_image, make_release


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make_image(tmp_path / "image")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an image, keys, and a release that tests copy."""
    return make_home(tmp_path_factory.mktemp("release"))


@pytest.fixture
def keys(home: Path) -> Path:
    """A directory with a signing key and the list of who may sign."""
    return home / "keys"


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    """A release folder to do anything to."""
    return Path(shutil.copytree(home / "release", tmp_path / "folder"))


@pytest.fixture
def release(home: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a release folder: `release("NAME")`, with other contents `release("NAME", disk=b"…")`."""
    return lambda name, **options: make_release(home, tmp_path / name, **options)
