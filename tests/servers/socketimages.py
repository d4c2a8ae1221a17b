"""A registry, dockerd's image store, and the judge of socket mounts between them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from cofferdam_guest.apiproxy.images.client import RegistryClient
from cofferdam_guest.apiproxy.images.local import short_name
from cofferdam_guest.apiproxy.images.socketimages import SocketImages, Verdict
from cofferdam_guest.apiproxy.images.web import Web
from cofferdam_guest.config import references
from cofferdam_guest.config.policy import Policy
from servers.registry import Image, Registry

T = TypeVar("T")
CONTEXT = ssl.create_default_context()  # slow to make


class Dockerd:
    """dockerd's image store: what pull, tag, load, build and push leave in it."""

    def __init__(self) -> None:
        self.images_by_id: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []

    def load(self, image: Image, *tags: str) -> None:
        entry = self.images_by_id.setdefault(
            image.id,
            {"Id": image.id, "RepoTags": [], "RepoDigests": [], "RootFS": {"Type": "layers", "Layers": image.layers}},
        )
        for tag in tags:
            self.tag(image, tag)
        entry["RepoTags"] = sorted(entry["RepoTags"])

    def tag(self, image: Image, name: str) -> None:
        for other in self.images_by_id.values():
            other["RepoTags"] = [tag for tag in other["RepoTags"] if tag != name]
        self.images_by_id[image.id]["RepoTags"].append(name)

    def pull(self, image: Image, name: str, digest: str) -> None:
        self.load(image, name)
        repository = short_name(references.parse(name))
        self.images_by_id[image.id]["RepoDigests"].append(f"{repository}@{digest}")

    async def image(self, name: str) -> dict[str, Any] | None:
        self.asked.append(name)
        for image in self.images_by_id.values():
            if name in (image["Id"], *image["RepoTags"]) or image["Id"].removeprefix("sha256:").startswith(name):
                return image
        return None

    async def images(self, repository: str) -> list[str]:
        return [
            image["Id"]
            for image in self.images_by_id.values()
            if any(
                name.rpartition("@" if "@" in name else ":")[0] == repository
                for name in (*image["RepoTags"], *image["RepoDigests"])
            )
        ]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A registry, dockerd, and the judge between them, which can be started anew as after a reboot."""

    def __init__(self, registry: Registry, path: Path) -> None:
        self.registry, self.path, self.dockerd, self.clock = registry, path, Dockerd(), Clock()
        self.client = RegistryClient(Web(context=CONTEXT))
        self.loop = asyncio.new_event_loop()
        self.images = self.start()

    def name(self, rest: str) -> str:
        return f"{self.registry.host}/{rest}"

    def start(self, *entries: str, derived: bool = False, policy: Policy | None = None) -> SocketImages:
        policy = policy or Policy(socket_images=tuple(entries), allow_derived=derived)
        self.images = SocketImages(policy, self.dockerd, self.client, str(self.path), self.clock, frozenset({"amd64", "386"}))
        return self.images

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def judge(self, image: str) -> Verdict:
        return self.run(self.images.allowed(image))

    def allows(self, image: str) -> bool:
        return self.judge(image).allowed


@contextmanager
def opened(path: Path) -> Iterator[World]:
    registry = Registry()
    made = World(registry, path / "disk" / "socket-images.json")
    try:
        yield made
    finally:
        made.client.close()
        made.loop.close()
        registry.close()


GOOD = Image("base", "cli")
EVIL = Image("base", "evil")


def allowed_and_pulled(world: World, entry: str = "tools/cli:1") -> str:
    world.start(world.name(entry))
    digest = world.registry.push("tools/cli", "1", GOOD)
    world.dockerd.pull(GOOD, world.name("tools/cli:1"), digest)
    return digest
