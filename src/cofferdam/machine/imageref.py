"""Which image an instance boots: where it lies and what it is, so that it is found again and people are told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from cofferdam.errors import InstanceError
from cofferdam.paths import state_home

# Who only asks what an instance boots needs nothing of what builds.
if TYPE_CHECKING:
    from cofferdam.image.model import Image

ORIGIN = "origin.json"
LOCK = ".lock"
"""Of the directory of installed images: held by who installs one."""

_STORE = "images"


class Origin(BaseModel):
    """Where an installed image came from; it lies beside the image's files.

    Attributes:
        version: of the release; empty when it was none.
        commit: that the release was built from; empty when it was none.
        artefact: the file or directory that it was taken from.
        sha256: of that file; of the files' checksums when it was a directory.
        verified: whether the release was right in every respect, signature included.
        files: checksums of the image's files.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str = ""
    commit: str = ""
    artefact: str
    sha256: str
    verified: bool
    files: dict[str, str]


class ImageRef(BaseModel):
    """An image that an instance refers to.

    Attributes:
        directory: where its files are.
        profile: name of its profile.
        version: of the release it is from; empty when it is from none.
        verified: whether that release was verified; an image that was built here has nothing to be verified.
        installed: whether it was installed, and not built here.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    directory: str
    profile: str
    version: str = ""
    verified: bool = False
    installed: bool = False

    @property
    def label(self) -> str:
        """What it is called: its version, else its place."""
        return self.version or f"{self.profile} {Path(self.directory).name[:12]}"

    @property
    def words(self) -> str:
        """The same, and whether it was verified."""
        return f"{self.label}, {_KINDS[self.installed, self.verified]}"

    def open(self) -> Image:
        """The image.

        Raises:
            BuildError: it is no longer there.
        """
        from cofferdam.image.model import open_image

        return open_image(Path(self.directory))


_KINDS = {
    (True, True): "verified",
    (True, False): "NOT VERIFIED",
    (False, False): "built here",
    (False, True): "built here",
}


class Placed(Protocol):
    """What a reference is made from: an image in a directory."""

    @property
    def directory(self) -> Path:
        """Where its files are."""

    @property
    def profile(self) -> str:
        """Name of its profile."""


def image_store() -> Path:
    """Directory of installed images, a directory each."""
    return state_home() / _STORE


def reference(image: Placed) -> ImageRef:
    """What an instance remembers of an image.

    Raises:
        InstanceError: what an installed image says about itself is damaged.
    """
    origin = read_origin(image.directory)
    facts = {} if origin is None else {"version": origin.version, "verified": origin.verified, "installed": True}
    return ImageRef.model_validate({"directory": str(image.directory), "profile": image.profile, **facts})


def read_origin(directory: Path) -> Origin | None:
    """Where an image came from; none when it was not installed but built here.

    Raises:
        InstanceError: the file is damaged.
    """
    path = directory / ORIGIN
    try:
        return Origin.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError, OSError) as error:
        raise InstanceError(f"{path} is damaged: {error}", hint="Install the image again: `inv boot --image DIR`.") from error
