"""A built image: the files that are booted and the manifest that says what they are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cofferdam.cache import file_digest
from cofferdam.errors import BuildError
from cofferdam.image.verity import Verity
from cofferdam.paths import cache_home
from cofferdam.tools.packages import Archive, Contents, Package

IMAGES = "images"
KERNEL, ROOT, HASHES = "vmlinuz", "root.erofs", "root.verity"
MANIFEST, CONFIG = "manifest.json", "kernel.config"
SSH_KEY, SSH_HOST_KEY = "ssh_key", "ssh_host_key.pub"
POLICY = "admin-settings.json"
PACKAGES, COPYRIGHTS = "packages.json", "copyrights.json"
RELEASED = (MANIFEST, KERNEL, ROOT, HASHES, CONFIG, POLICY, PACKAGES, COPYRIGHTS)
"""The files of an image that may be in a release: no keys."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileFacts(_Model):
    """A file of the image: its SHA-256 and its size in bytes."""

    sha256: str
    size: int


class KernelFacts(_Model):
    """Where the kernel comes from; `version` is what `uname -r` prints, `source_version` that of Debian's package."""

    version: str
    config_sha256: str
    source_package: str
    source_version: str
    source_suite: str
    source_sha256: str


class RootFacts(_Model):
    """How the root file system was made."""

    suite: str
    compression: str
    archives: list[Archive]


class Manifest(_Model):
    """What an image is made from, complete: nothing in it depends on when or where it was built.

    Images of earlier versions have no `verity`: their root is not verified.
    `data_format` is the newest format of a data disk that its guest can use.
    """

    format: int = 1
    profile: str
    description: str
    isolation: str
    ssh: bool
    cmdline: list[str]
    kernel: KernelFacts
    root: RootFacts
    files: dict[str, FileFacts]
    packages: list[Package]
    verity: Verity | None = None
    data_format: int = 1


class Ingredients(_Model):
    """Every Debian package that an image was made with: those of its root, of the tools tree, and the kernel's source.

    The tools tree's are not known when an earlier version made it; those of the image tools tree are for disks.
    """

    root: Contents
    tools: Contents | None
    kernel: Contents
    image_tools: Contents | None = None


@dataclass(frozen=True)
class Image:
    """The files of a built image.

    Attributes:
        directory: where they lie.
        profile: name of its profile.
        cmdline: words for the kernel's command line, besides those of the machine.
        ssh_key: private key for ssh, on profiles that have it.
        ssh_known_hosts: public key of the image's ssh server, on profiles that have it.
        verity: how its root is verified; none in images of earlier versions.
        isolation: what keeps containers apart: `kernel`, or `none`.
        data_format: the newest format of a data disk that it can use.
    """

    directory: Path
    profile: str
    cmdline: list[str]
    ssh_key: Path | None
    ssh_known_hosts: Path | None
    isolation: str = "kernel"
    data_format: int = 1
    verity: Verity | None = None

    @property
    def kernel(self) -> Path:
        """The kernel to boot (bzImage)."""
        return self.directory / KERNEL

    @property
    def root(self) -> Path:
        """The root file system (EROFS)."""
        return self.directory / ROOT

    @property
    def hashes(self) -> Path | None:
        """The tree of hashes of the root, where that is verified."""
        return self.directory / HASHES if self.verity is not None else None

    @property
    def policy(self) -> Path | None:
        """A copy of the policy that is in the root; none in images of earlier versions."""
        path = self.directory / POLICY
        return path if path.exists() else None

    @property
    def ingredients(self) -> Path:
        """What it was made with (JSON); not there in images of earlier versions."""
        return self.directory / PACKAGES

    @property
    def copyrights(self) -> Path | None:
        """Texts of the copyright files of the root's packages (JSON); none in images of earlier versions."""
        path = self.directory / COPYRIGHTS
        return path if path.exists() else None

    @property
    def manifest(self) -> Path:
        """The manifest (JSON)."""
        return self.directory / MANIFEST


def open_image(directory: Path) -> Image:
    """The image in a directory.

    Raises:
        BuildError: its manifest is missing or not one of this version.
    """
    try:
        manifest = Manifest.model_validate_json((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise BuildError(
            f"{directory} is not an image of this version: {error}", hint="Run `inv build-vm` to make one."
        ) from error
    key, host_key = (directory / SSH_KEY, directory / SSH_HOST_KEY) if manifest.ssh else (None, None)
    return Image(
        directory, manifest.profile, manifest.cmdline, key, host_key, manifest.isolation, manifest.data_format, manifest.verity
    )


def latest_link(profile: str) -> Path:
    """The symbolic link to the latest image of a profile."""
    return cache_home() / IMAGES / profile


def load_image(profile: str) -> Image:
    """The latest image that was built for a profile.

    Raises:
        BuildError: there is none.
    """
    link = latest_link(profile)
    if not link.is_dir():
        hint = f"Run `inv build-vm --profile {profile}`; `inv boot --image DIR` boots a release."
        raise BuildError(f"there is no image of profile `{profile}` yet", hint=hint)
    return open_image(link.resolve())


def require_kernel(image: Image) -> Image:
    """The image, if its kernel is that of its manifest: what the kernel then starts is verified, by a hash of the manifest.

    Raises:
        BuildError: it is not.
    """
    facts = Manifest.model_validate_json(image.manifest.read_bytes()).files.get(KERNEL)
    if facts is None or file_digest(image.kernel) != facts.sha256:
        raise BuildError(
            f"verification failed: {image.kernel} is not the kernel of its manifest",
            hint=f"Remove {image.directory} and run `inv build-vm --profile {image.profile}`.",
        )
    return image
