from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam_guest.apiproxy.images.knowledge import PERIOD
from cofferdam_guest.apiproxy.images.socketimages import SocketImages, Verdict, denial
from cofferdam_guest.config.policy import Policy, deny_all
from servers.registry import Image
from servers.socketimages import EVIL, GOOD, World, allowed_and_pulled, opened


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened(tmp_path) as made:
        yield made


def test_the_image_of_an_allowed_tag_may_and_others_may_not(world: World) -> None:
    allowed_and_pulled(world)
    world.dockerd.load(EVIL, "evil:1")
    verdict = world.judge(world.name("tools/cli:1"))
    assert verdict == Verdict(True, f"the image is that of {world.name('tools/cli:1')}", world.name("tools/cli"), GOOD.id)
    assert not world.allows("evil:1")
    assert world.allows(GOOD.id)


def test_the_same_content_is_allowed_under_any_local_name(world: World) -> None:
    allowed_and_pulled(world)
    world.dockerd.tag(GOOD, "mine:1")
    assert world.allows("mine:1")


def test_a_retagged_image_stays_refused(world: World) -> None:
    allowed_and_pulled(world)
    assert world.allows(world.name("tools/cli:1"))
    world.dockerd.load(EVIL, world.name("tools/cli:1"))
    assert not world.allows(world.name("tools/cli:1"))


def test_a_retagged_image_is_refused_for_any_tag_and_for_a_digest_as_well(world: World) -> None:
    digest = allowed_and_pulled(world)
    world.start(world.name("tools/cli:*"), world.name(f"tools/cli@{digest}"))
    world.dockerd.load(EVIL, world.name("tools/cli:1"))
    assert not world.allows(world.name("tools/cli:1"))


def test_a_digest_noted_for_other_content_does_not_help(world: World) -> None:
    digest = allowed_and_pulled(world)
    world.start(world.name("tools/cli:*"), world.name("tools/cli:1"))
    world.dockerd.pull(EVIL, world.name("tools/cli:2"), digest)
    assert not world.allows(world.name("tools/cli:2"))


def test_an_index_allows_the_images_of_this_machines_platforms(world: World) -> None:
    here, older, foreign = Image("a"), Image("a", architecture="386"), Image("a", architecture="s390x")
    world.registry.push_index("tools/multi", "1", here, older, foreign, attestation=True)
    world.start(world.name("tools/multi:1"))
    for image in (here, older, foreign):
        world.dockerd.load(image)
    assert [world.allows(image.id) for image in (here, older, foreign)] == [True, True, False]
    assert not any(foreign.digest in request for request in world.registry.requests)


def test_an_index_that_names_missing_manifests_allows_the_others(world: World) -> None:
    here, lost = Image("a"), Image("b")
    world.registry.push_index("tools/multi", "1", lost, here)
    del world.registry.manifests["tools/multi", lost.digest]
    world.start(world.name("tools/multi:1"))
    world.dockerd.load(here)
    assert world.allows(here.id)


def test_when_the_tag_moves_the_old_image_is_refused_after_the_next_round(world: World) -> None:
    allowed_and_pulled(world)
    assert world.allows(GOOD.id)
    world.registry.push("tools/cli", "1", Image("base", "newer"))
    assert world.allows(GOOD.id)
    world.clock.now += PERIOD
    assert not world.allows(GOOD.id)


def test_what_was_pulled_just_now_is_asked_about_at_once(world: World) -> None:
    allowed_and_pulled(world)
    assert world.allows(GOOD.id)
    newer = Image("base", "newer")
    world.dockerd.pull(newer, world.name("tools/cli:1"), world.registry.push("tools/cli", "1", newer))
    assert world.allows(world.name("tools/cli:1"))
    assert not world.allows(GOOD.id)


def test_questions_about_unknown_digests_are_not_repeated_within_a_round(world: World) -> None:
    allowed_and_pulled(world)
    world.dockerd.pull(EVIL, world.name("tools/cli:0"), EVIL.digest)
    world.start(world.name("tools/cli:*"))
    assert not world.allows(EVIL.id)
    before = len(world.registry.requests)
    assert not world.allows(EVIL.id)
    assert len(world.registry.requests) == before


def test_any_tag_allows_what_the_repository_holds_and_nothing_else(world: World) -> None:
    world.start(world.name("tools/cli:*"))
    old = Image("old")
    world.dockerd.pull(old, world.name("tools/cli:old"), world.registry.push("tools/cli", "old", old))
    world.dockerd.pull(EVIL, world.name("tools/other:1"), world.registry.push("tools/other", "1", EVIL))
    lost = Image("lost")
    world.dockerd.pull(lost, world.name("tools/cli:lost"), lost.digest)
    assert [world.allows(image.id) for image in (old, EVIL, lost)] == [True, False, False]


def test_any_tag_refuses_what_the_registry_has_deleted(world: World) -> None:
    digest = allowed_and_pulled(world, "tools/cli:*")
    assert world.allows(GOOD.id)
    del world.registry.manifests["tools/cli", digest]
    world.clock.now += PERIOD
    assert not world.allows(GOOD.id)


def test_a_digest_needs_no_network(world: World) -> None:
    digest = allowed_and_pulled(world)
    world.registry.broken = 503
    world.start(world.name(f"tools/cli@{digest}"))
    assert world.allows(world.name("tools/cli:1"))
    world.dockerd.pull(EVIL, world.name("tools/cli:evil"), EVIL.digest)
    assert not world.allows(world.name("tools/cli:evil"))


def test_a_digest_counts_in_its_own_repository_only(world: World) -> None:
    allowed_and_pulled(world)
    world.registry.broken = 503
    world.dockerd.pull(EVIL, world.name("tools/other:1"), EVIL.digest)
    world.start(world.name(f"tools/cli@{EVIL.digest}"))
    assert not world.allows(EVIL.id)


def test_an_index_digest_allows_the_image_pulled_by_its_own_digest(world: World) -> None:
    digest = world.registry.push_index("tools/cli", "1", GOOD)
    world.start(world.name(f"tools/cli@{digest}"))
    world.dockerd.pull(GOOD, world.name("tools/cli:1"), GOOD.digest)
    assert world.allows(GOOD.id)


def test_one_star_allows_everything_without_asking(world: World) -> None:
    world.start("*")
    verdict = world.judge("local-only:1")
    assert (verdict.allowed, verdict.name, verdict.id) == (True, "docker.io/library/local-only", "")
    world.run(asyncio.wait_for(world.images.run(), 1))
    assert not world.registry.requests and not world.dockerd.asked


@pytest.mark.parametrize("policy", [Policy(), deny_all("no policy"), Policy(socket_images=("*",), denied="corrupt")])
def test_no_list_allows_nothing(world: World, policy: Policy) -> None:
    world.dockerd.load(GOOD, "good:1")
    world.start(policy=policy)
    assert not world.allows("good:1")


def test_a_missing_image_is_told_from_a_refused_one(world: World) -> None:
    world.start(world.name("tools/cli:1"))
    verdict = world.judge("nowhere:1")
    assert (verdict.allowed, verdict.missing) == (False, True)


def test_one_round_in_two_minutes_and_its_questions_are_no_pulls(world: World) -> None:
    allowed_and_pulled(world)
    for _ in range(5):
        assert world.allows(GOOD.id)
    first = list(world.registry.requests)
    assert [request.split()[0] for request in first] == ["HEAD", "GET"]
    world.clock.now += PERIOD - 1
    assert world.allows(GOOD.id)
    assert world.registry.requests == first
    world.clock.now += 1
    assert world.allows(GOOD.id)
    assert world.registry.requests == [*first, first[0]]


def test_starts_at_the_same_time_share_a_round(world: World) -> None:
    allowed_and_pulled(world)

    async def several() -> list[Verdict]:
        return await asyncio.gather(*(world.images.allowed(GOOD.id) for _ in range(20)))

    assert all(verdict.allowed for verdict in world.run(several()))
    assert len(world.registry.requests) == 2


def test_the_background_cycle_asks_before_the_first_container(world: World) -> None:
    allowed_and_pulled(world)

    async def some_time() -> None:
        cycle = asyncio.create_task(world.images.run())
        while not world.path.exists():
            await asyncio.sleep(0.01)
        cycle.cancel()
        await asyncio.gather(cycle, return_exceptions=True)

    world.run(asyncio.wait_for(some_time(), 5))
    world.registry.broken = 503
    assert world.allows(GOOD.id)


def test_a_silent_registry_delays_a_start_by_the_patience_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        async def digest(self, *_: object) -> str:
            await asyncio.sleep(3600)
            raise AssertionError

        manifest = digest

    monkeypatch.setattr("cofferdam_guest.apiproxy.images.socketimages.PATIENCE", 0.05)
    world.dockerd.load(GOOD, "good:1")
    images = SocketImages(Policy(socket_images=("docker:cli",)), world.dockerd, Silent(), str(world.path), world.clock)

    async def start() -> Verdict:
        cycle = asyncio.create_task(images.run())
        try:
            return await images.allowed("good:1")
        finally:
            cycle.cancel()
            await asyncio.gather(cycle, return_exceptions=True)

    assert not world.run(asyncio.wait_for(start(), 5)).allowed


def test_the_denial_is_that_of_the_documentation() -> None:
    text = (
        'enhanced container isolation: docker socket mount denied for container with image "docker.io/library/docker"; '
        "image is not in the allowed list; if you wish to allow it, configure the docker socket image list in the Docker Desktop settings."
    )
    assert denial("docker:cli") == denial("docker.io/library/docker") == denial("docker@" + GOOD.digest) == text
    assert f'"{GOOD.id}"' in denial(GOOD.id)


def test_an_image_named_by_its_id_is_called_by_its_name(world: World) -> None:
    world.start(world.name("tools/cli:1"))
    world.dockerd.load(EVIL, "evil:1")
    assert world.judge(EVIL.id.removeprefix("sha256:")[:12]).name == "docker.io/library/evil"
    assert world.judge(EVIL.id).name == "docker.io/library/evil"
