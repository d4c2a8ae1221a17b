from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.registry import Image
from servers.socketimages import EVIL, GOOD, World, allowed_and_pulled, opened


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened(tmp_path) as made:
        yield made


BUILT = Image("base", "cli", "own")


def test_an_image_built_from_an_allowed_one_may_when_the_policy_says_so(world: World) -> None:
    allowed_and_pulled(world)
    world.dockerd.load(BUILT, "built:1")
    world.dockerd.load(EVIL, "evil:1")
    assert not world.allows("built:1")
    for entry in ("tools/cli:1", "tools/cli:*", f"tools/cli@{GOOD.digest}"):
        world.path.unlink(missing_ok=True)
        world.start(world.name(entry), derived=True)
        assert world.allows("built:1")
        assert not world.allows("evil:1")


def test_the_parent_must_be_here_and_must_itself_be_allowed(world: World) -> None:
    allowed_and_pulled(world)
    world.start(world.name("tools/cli:1"), derived=True)
    world.dockerd.load(BUILT, "built:1")
    parent = world.dockerd.images_by_id.pop(GOOD.id)
    assert not world.allows("built:1")
    # a stranger under the parent's name
    world.dockerd.load(Image("base"), world.name("tools/cli:1"))
    assert not world.allows("built:1")
    world.dockerd.images_by_id[GOOD.id] = parent
    assert world.allows("built:1")


def test_an_image_from_a_registry_is_never_a_derived_one(world: World) -> None:
    allowed_and_pulled(world)
    world.start(world.name("tools/cli:1"), derived=True)
    world.dockerd.pull(BUILT, world.name("tools/built:1"), BUILT.digest)
    assert not world.allows(BUILT.id)


def test_an_image_without_layers_is_nobodys_parent(world: World) -> None:
    empty = Image()
    world.dockerd.pull(empty, world.name("tools/empty:1"), world.registry.push("tools/empty", "1", empty))
    world.start(world.name("tools/empty:1"), derived=True)
    world.dockerd.load(EVIL, "evil:1")
    assert (world.allows(empty.id), world.allows("evil:1")) == (True, False)


def test_the_same_layers_with_another_configuration_are_not_derived(world: World) -> None:
    allowed_and_pulled(world)
    world.start(world.name("tools/cli:1"), derived=True)
    twin = Image("base", "cli", command="other")
    world.dockerd.load(twin, "twin:1")
    assert not world.allows("twin:1")
