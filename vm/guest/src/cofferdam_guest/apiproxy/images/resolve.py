"""From a manifest's digest to the ids that its images have in dockerd."""

from __future__ import annotations

import platform
from typing import Protocol

from cofferdam_guest.apiproxy.images.client import Gone, Logins
from cofferdam_guest.apiproxy.images.manifests import BadManifest, Image, Index, Listed, parse
from cofferdam_guest.apiproxy.images.web import Unreachable
from cofferdam_guest.config.references import Reference

PLATFORM_LIMIT = 32
# Without emulation, which this VM has not, the kernel runs these; others are not asked for: Docker Hub counts every manifest.
_RUNNABLE = {"x86_64": ("amd64", "386"), "aarch64": ("arm64", "arm")}


class Registry(Protocol):
    """What is asked of registries; see RegistryClient."""

    async def digest(self, image: Reference, reference: str, logins: Logins | None = None) -> str:
        """The digest that a tag or a digest names now. Raises Gone, Unreachable."""

    async def manifest(self, image: Reference, digest: str, logins: Logins | None = None) -> bytes:
        """The manifest's bytes, which have that digest. Raises Gone, Unreachable."""


def runnable() -> frozenset[str]:
    """The architectures, in Go's words, that this machine's kernel runs."""
    machine = platform.machine()
    return frozenset(_RUNNABLE.get(machine, (machine,)))


async def image_ids(
    registry: Registry, image: Reference, digest: str, architectures: frozenset[str], logins: Logins | None = None
) -> frozenset[str]:
    """The ids under which dockerd knows what `digest` names in the image's repository.

    That is the digest of the configuration with dockerd's own image store, and the digest of a manifest or an index with
    containerd's. All are hashes of content that names all other content, so no other image can have them.

    Raises:
        Gone: the registry has no such manifest, or an index none of whose manifests is there.
        Unreachable: no usable answer, or a manifest that cannot be judged.
    """
    try:
        document = parse(await registry.manifest(image, digest, logins))
        if isinstance(document, Image):
            return frozenset((digest, document.config))
        found = {digest}
        for listed in _wanted(document, architectures):
            try:
                inner = parse(await registry.manifest(image, listed.digest, logins))
            except Gone:
                continue  # an index may name platforms that were not copied with it
            if isinstance(inner, Image):
                found |= {listed.digest, inner.config}
    except BadManifest as error:
        raise Unreachable(f"{image.name}@{digest} cannot be judged: {error}") from error
    if found == {digest}:
        raise Gone(f"{image.name}@{digest} has no image for {'/'.join(sorted(architectures))}")
    return frozenset(found)


def _wanted(index: Index, architectures: frozenset[str]) -> list[Listed]:
    fitting = [
        each
        for each in index.listed
        if each.system in ("", "linux") and (each.architecture in architectures or not each.architecture)
    ]
    return fitting[:PLATFORM_LIMIT]
