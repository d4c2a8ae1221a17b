"""The series of kills: the same seed gives the same, and every point comes up."""

from __future__ import annotations

import pytest

from vmtest.kills import BOOT, PAUSES, ROUND, WORK, rounds


@pytest.mark.parametrize("count", [1, 4, 6, 50])
def test_there_are_as_many_as_asked_for_and_the_first_of_a_round_hits_a_machine_at_work(count):
    found = list(rounds(7, count))
    assert sum(map(len, found)) == count
    assert all(len(kills) <= ROUND for kills in found)
    assert all((kills[0].phase, kills[0].victim) in WORK for kills in found)
    assert all((kill.phase, kill.victim) in BOOT for kills in found for kill in kills[1:])


def test_a_seed_repeats_its_series():
    assert list(rounds(7, 50)) == list(rounds(7, 50)) != list(rounds(8, 50))


@pytest.mark.parametrize("seed", range(20))
def test_every_point_comes_up_in_a_long_series(seed):
    found = [(kill.phase, kill.victim) for kills in rounds(seed, 50) for kill in kills]
    assert set(found) == {*WORK, *BOOT}
    assert min(found.count(point) for point in WORK) >= 2


def test_a_boot_is_hit_before_it_ends_and_nothing_is_waited_for_long():
    for kills in rounds(7, 500):
        for kill in kills:
            assert 0 <= kill.pause(30.0) <= (28.5 if kill.phase == "boot" else PAUSES[kill.phase])
