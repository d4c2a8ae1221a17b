"""Id maps: whole, without overlap, and with two ids that change places."""

import os

import pytest

from cofferdam_guest.linux import namespaces

BASE, SIZE = 165536, 65536


def mapped(text, inside):
    """Where an id inside a namespace leads to by the lines of its map."""
    for line in text.splitlines():
        first, outside, count = map(int, line.split())
        if first <= inside < first + count:
            return outside + inside - first
    return None


@pytest.mark.parametrize("other", [0, 1, 2, 1000, SIZE - 2, SIZE - 1])
def test_two_ids_change_places_and_all_others_stay(other):
    text = namespaces.id_map(BASE, SIZE, other)
    assert mapped(text, 0) == BASE + other
    assert mapped(text, other) == BASE
    for inside in {1, 2, 3, 999, 1001, SIZE - 1, SIZE - 2} - {other}:
        assert mapped(text, inside) == BASE + inside
    assert mapped(text, SIZE) is None
    assert sum(int(line.split()[2]) for line in text.splitlines()) == SIZE


@pytest.mark.parametrize("other", [SIZE, SIZE + 1, 2**32 - 1, -1])
def test_an_id_out_of_the_range_changes_nothing(other):
    assert namespaces.id_map(BASE, SIZE, other) == f"0 {BASE} {SIZE}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="maps of several ids need root")
@pytest.mark.parametrize("user", [0, 1, 1000])
def test_the_kernel_takes_the_map(user):
    try:
        nursery = namespaces.Nursery()
    except OSError as error:
        pytest.skip(f"no time namespaces here: {error}")
    try:
        nursery.map_ids(BASE, SIZE, user, 5)
        child = nursery._child
        for name, other in (("uid_map", user), ("gid_map", 5)):
            with open(f"/proc/{child}/{name}", encoding="ascii") as file:
                found = file.read()
            assert mapped(found, 0) == BASE + other
            assert mapped(found, other) == BASE
    finally:
        os.close(nursery.user)
        os.close(nursery.time)
        nursery.close()
