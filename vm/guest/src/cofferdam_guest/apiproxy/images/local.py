"""An image in dockerd, as `docker image inspect` shows it, and the engine that is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from cofferdam_guest.apiproxy.images.manifests import DIGEST
from cofferdam_guest.config import references
from cofferdam_guest.config.references import DEFAULT_HOST, BadReference, Reference

_DIGESTS_LIMIT = 16


class Engine(Protocol):
    """dockerd, asked directly. What it cannot answer it raises as OSError, which is not caught here."""

    async def image(self, name: str) -> dict[str, Any] | None:
        """The image of a name or an id (GET /images/{name}/json); None when there is none (404)."""

    async def images(self, repository: str) -> list[str]:
        """Ids of the local images in a repository, by its short name (GET /images/json, filter `reference`)."""


@dataclass(frozen=True, slots=True)
class LocalImage:
    """A local image.

    Attributes:
        id: hash of its configuration (of its manifest with containerd's image store).
        digests: repositories and manifest digests that dockerd noted when it pulled or pushed the image; a hint, never a proof.
        layers: hashes of its uncompressed layers, from the lowest up; dockerd compares them with the content at pull and load.
        names: tags and digests as inspect lists them.
    """

    id: str
    digests: tuple[Reference, ...]
    layers: tuple[str, ...]
    names: tuple[str, ...]


def from_inspect(document: dict[str, Any]) -> LocalImage | None:
    """The image in an answer of dockerd; None when the answer has no id: then nothing can be judged."""
    id = document.get("Id")
    if not isinstance(id, str) or not DIGEST.fullmatch(id):
        return None
    digests = _texts(document.get("RepoDigests"))
    filesystem = document.get("RootFS")
    layers = _texts(filesystem.get("Layers")) if isinstance(filesystem, dict) else []
    names = (*_texts(document.get("RepoTags")), *digests)
    return LocalImage(id, tuple(_references(digests)), tuple(layers), names)


def display_name(image: str, found: LocalImage | None) -> str:
    """The name that a denial prints: normalised, without tag and digest; of an id, the image's first name or the id itself."""
    by_id = found is not None and found.id.removeprefix("sha256:").startswith(image.removeprefix("sha256:"))
    named = [image] if not by_id else [name for name in found.names if not name.startswith("<none>")] if found else []
    for name in (*named, image):
        try:
            # `sha256:...` is an id; as a name it would be the tag of a repository called so.
            return image if name.startswith("sha256:") else references.parse(name, wildcard=False).name
        except BadReference:
            continue
    return image


def short_name(image: Reference) -> str:
    """A repository's name as dockerd shows and filters it: `docker` for `docker.io/library/docker`."""
    name = image.name.removeprefix(f"{DEFAULT_HOST}/")
    return name.removeprefix("library/") if name.count("/") == 1 else name


def _references(digests: list[str]) -> list[Reference]:
    found = []
    for text in digests[:_DIGESTS_LIMIT]:
        try:
            found.append(references.parse(text, wildcard=False))
        except BadReference:
            continue
    return [each for each in found if each.digest]


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
