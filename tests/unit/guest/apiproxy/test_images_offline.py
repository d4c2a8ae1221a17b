from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam_guest.apiproxy.images.knowledge import PERIOD, RETRY
from servers.socketimages import EVIL, GOOD, World, allowed_and_pulled, opened


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened(tmp_path) as made:
        yield made


def test_offline_what_was_known_last_holds_over_a_restart(world: World) -> None:
    allowed_and_pulled(world)
    assert world.allows(GOOD.id)
    assert world.path.stat().st_mode & 0o777 == 0o600
    world.registry.broken = 503
    world.start(world.name("tools/cli:1"))
    assert world.allows(GOOD.id)
    world.clock.now += 1_000_000
    assert world.allows(GOOD.id)


def test_offline_and_never_known_is_refused_with_the_reason(world: World) -> None:
    allowed_and_pulled(world)
    world.registry.broken = 503
    verdict = world.judge(GOOD.id)
    assert not verdict.allowed
    assert "503" in verdict.reason and world.name("tools/cli:1") in verdict.reason


def test_a_registry_that_was_away_is_asked_again_soon(world: World) -> None:
    allowed_and_pulled(world)
    world.registry.broken = 503
    assert not world.allows(GOOD.id)
    world.registry.broken = 0
    world.clock.now += RETRY
    assert world.allows(GOOD.id)


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_refused_question_is_not_the_end_of_an_image_and_a_404_is(world: World, status: int) -> None:
    allowed_and_pulled(world)
    assert world.allows(GOOD.id)
    world.registry.broken = status
    world.clock.now += PERIOD
    assert world.allows(GOOD.id)
    world.registry.broken = 404
    world.clock.now += PERIOD
    assert not world.allows(GOOD.id)
    world.registry.broken = 503
    world.start(world.name("tools/cli:1"))
    assert not world.allows(GOOD.id)


STORED = {"format": 1, "entries": {"ENTRY": {GOOD.digest: [GOOD.id]}}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '"\\ud800"',
        json.dumps(STORED) + "x",
        json.dumps({**STORED, "format": 2}),
        json.dumps({**STORED, "more": 1}),
        json.dumps({"format": 1, "entries": {"ENTRY": {GOOD.digest: [GOOD.id, "sha256:short"]}}}),
        json.dumps({"format": 1, "entries": {"ENTRY": {GOOD.digest: GOOD.id}}}),
        json.dumps({"format": 1, "entries": {"ENTRY": {"x": [GOOD.id]}}}),
        json.dumps({"format": 1, "entries": {"ENTRY": {GOOD.digest: []}}}),
        json.dumps(STORED) + " " * (1 << 20),
    ],
)
def test_a_broken_store_is_nothing_known(world: World, text: str) -> None:
    allowed_and_pulled(world)
    world.registry.broken = 503
    world.path.parent.mkdir()
    world.path.write_text(json.dumps(STORED).replace("ENTRY", world.name("tools/cli:1")))
    world.start(world.name("tools/cli:1"))
    assert world.allows(GOOD.id)
    world.path.write_text(text.replace("ENTRY", world.name("tools/cli:1")))
    world.start(world.name("tools/cli:1"))
    assert not world.allows(GOOD.id)
    world.registry.broken = 0
    world.clock.now += RETRY
    assert world.allows(GOOD.id)
    assert json.loads(world.path.read_text())["entries"]


def test_the_store_is_not_a_link_and_not_a_pipe(world: World, tmp_path: Path) -> None:
    import os

    allowed_and_pulled(world)
    world.registry.broken = 503
    world.path.parent.mkdir()
    (tmp_path / "elsewhere").write_text(json.dumps(STORED).replace("ENTRY", world.name("tools/cli:1")))
    world.path.symlink_to(tmp_path / "elsewhere")
    world.start(world.name("tools/cli:1"))
    assert not world.allows(GOOD.id)
    world.path.unlink()
    os.mkfifo(world.path)
    world.start(world.name("tools/cli:1"))
    assert not world.allows(GOOD.id)


def test_a_store_cannot_keep_a_tags_older_digests_alive(world: World) -> None:
    allowed_and_pulled(world)
    stored = {GOOD.digest: [GOOD.id], EVIL.digest: [EVIL.id]}
    world.path.parent.mkdir()
    world.path.write_text(json.dumps({"format": 1, "entries": {world.name("tools/cli:1"): stored}}))
    world.dockerd.load(EVIL, "evil:1")
    world.start(world.name("tools/cli:1"))
    assert (world.allows(GOOD.id), world.allows(EVIL.id)) == (True, False)


def test_an_entry_taken_out_of_the_policy_is_not_allowed_from_the_store(world: World) -> None:
    allowed_and_pulled(world)
    assert world.allows(GOOD.id)
    world.registry.broken = 503
    world.start(world.name("tools/other:1"))
    assert not world.allows(GOOD.id)
    world.registry.broken = 0
    world.registry.push("tools/other", "1", EVIL)
    world.clock.now += RETRY
    assert not world.allows(GOOD.id)
    assert list(json.loads(world.path.read_text())["entries"]) == [world.name("tools/other:1")]


def test_a_store_that_cannot_be_written_does_not_change_the_verdict(world: World) -> None:
    world.path.parent.write_text("a file in the directory's place")
    allowed_and_pulled(world)
    assert world.allows(GOOD.id)
