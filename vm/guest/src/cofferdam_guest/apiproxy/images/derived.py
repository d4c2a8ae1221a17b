"""Images built from an allowed one: its layers are the lowest of theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from cofferdam_guest.apiproxy.images.local import Engine, LocalImage, from_inspect, short_name
from cofferdam_guest.config.references import Reference

_PARENTS_LIMIT = 32


async def parent_of(
    image: LocalImage,
    entries: Iterable[Reference],
    engine: Engine,
    entry_of: Callable[[LocalImage], Awaitable[Reference | None]],
) -> Reference | None:
    """The entry whose image, present in dockerd, a local image is built from.

    Args:
        image: the image to judge. One that came from or went to a registry is not derived, whatever its layers.
        entries: references of the policy.
        engine: dockerd.
        entry_of: the entry that allows an image by itself.
    """
    if image.digests or not image.layers:
        return None
    for repository in dict.fromkeys(short_name(entry) for entry in entries):
        for id in (await engine.images(repository))[:_PARENTS_LIMIT]:
            document = await engine.image(id)
            parent = from_inspect(document) if document else None
            if parent and _is_built_from(image, parent) and (entry := await entry_of(parent)):
                return entry
    return None


def _is_built_from(image: LocalImage, parent: LocalImage) -> bool:
    # An image without layers would be the parent of all others.
    return 0 < len(parent.layers) < len(image.layers) and image.layers[: len(parent.layers)] == parent.layers
