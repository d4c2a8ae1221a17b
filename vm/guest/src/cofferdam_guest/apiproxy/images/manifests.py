"""What a registry's manifest says: which image it is, or which images it lists. Bytes in, values out.

Source: the OCI image specification (image manifest, image index) and Docker's equivalents of schema 2. Schema 1 is refused: its
images have no configuration that a digest names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cofferdam_guest.config import positions

TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LISTED_LIMIT = 256


class BadManifest(ValueError):
    """The bytes are not a manifest that can be judged; the message says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image's manifest.

    Attributes:
        config: digest of its configuration, which is the image's id in dockerd.
    """

    config: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A manifest named by an index.

    Attributes:
        digest: of that manifest.
        system: operating system; empty when the index does not say.
        architecture: in Go's words (`amd64`); empty when the index does not say.
    """

    digest: str
    system: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Index:
    """The manifests of one image for several platforms."""

    listed: tuple[Listed, ...]


def parse(data: bytes) -> Image | Index:
    """The manifest in a registry's answer.

    Raises:
        BadManifest: it is not of schema 2, or could be read as both kinds.
    """
    try:
        document = positions.parse(data).plain()
    except positions.JsonError as error:
        raise BadManifest(f"not strict JSON, {error}") from error
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise BadManifest("not of schema 2")
    # Two readers could take different halves of a document that has both.
    if ("manifests" in document) == ("config" in document) or ("manifests" in document and "layers" in document):
        raise BadManifest("neither an image nor an index alone")
    if "config" in document:
        return Image(_digest(document["config"]))
    listed = document["manifests"]
    if not isinstance(listed, list) or len(listed) > _LISTED_LIMIT:
        raise BadManifest(f"an index that is not a list of at most {_LISTED_LIMIT}")
    return Index(tuple(_listed(item) for item in listed))


def _listed(item: Any) -> Listed:
    platform = item.get("platform") if isinstance(item, dict) else None
    if not isinstance(platform, dict):
        platform = {}
    return Listed(_digest(item), str(platform.get("os", "")), str(platform.get("architecture", "")))


def _digest(descriptor: Any) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise BadManifest("a descriptor without a sha256 digest")
    return digest
