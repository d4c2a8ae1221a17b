import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofferdam_guest.idrange.pool import Pool, PoolExhausted


def test_the_first_ranges_are_those_the_documentation_promises():
    pool = Pool(100000, 65536, 4096)
    assert pool.lowest_free(set()) == 100000
    assert pool.lowest_free({100000}) == 165536
    assert pool.lowest_free({100000, 165536}) == 231072


def test_the_lowest_free_range_is_reused():
    assert Pool(100000, 65536, 4096).lowest_free({100000, 231072}) == 165536


def test_an_exhausted_pool_refuses():
    pool = Pool(1000, 10, 3)
    with pytest.raises(PoolExhausted, match="all 3"):
        pool.lowest_free({1000, 1010, 1020})


@given(st.integers(1, 50), st.lists(st.integers(0, 49)))
def test_ranges_never_overlap(count, releases):
    pool = Pool(100000, 65536, count)
    used: set[int] = set()
    for index in range(count):
        base = pool.lowest_free(used)
        assert all(abs(base - other) >= 65536 for other in used)
        used.add(base)
        if index < len(releases):
            used.discard(100000 + releases[index] * 65536)


@pytest.mark.parametrize("values", [(0, 65536, 1), (1, 0, 1), (1, 1, 0), (100000, 65536, 65536), (2**32 - 65536, 65536, 1)])
def test_a_pool_that_is_none_is_an_error(values):
    with pytest.raises(ValueError):
        Pool(*values)
