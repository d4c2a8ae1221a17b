import multiprocessing
import os

import pytest

from cofferdam_guest.idrange.pool import Pool, PoolExhausted
from cofferdam_guest.idrange.store import AlreadyHeld, Holder, Store, is_live, parse, process_start

POOL = Pool(100000, 65536, 64)
ROOT = "/run/docker/runtime-runc/moby"


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "ids"), live=lambda holder: True)


def test_ranges_are_exclusive_and_lowest_first(store):
    assert [store.claim(POOL, n, ROOT, f"c{n}") for n in range(3)] == [100000, 165536, 231072]
    store.release(ROOT, "c1")
    assert store.claim(POOL, 9, ROOT, "c9") == 165536


def test_releasing_twice_and_releasing_a_stranger_do_no_harm(store):
    store.claim(POOL, 1, ROOT, "a")
    store.claim(POOL, 2, ROOT, "b")
    for name in ("a", "a", "stranger"):
        store.release(ROOT, name)
    assert [each.id for each in store.holders()] == ["b"]


def test_the_same_name_under_another_root_is_another_container(store):
    assert store.claim(POOL, 1, "/run/a", "x") != store.claim(POOL, 2, "/run/b", "x")
    store.release("/run/a", "x")
    assert [each.root for each in store.holders()] == ["/run/b"]


def test_a_container_that_exists_cannot_be_made_again(store):
    store.claim(POOL, 1, ROOT, "a")
    with pytest.raises(AlreadyHeld):
        store.claim(POOL, 2, ROOT, "a")
    assert len(store.holders()) == 1


def test_a_joined_range_is_free_only_after_its_last_holder(store):
    base = store.claim(POOL, 77, ROOT, "owner")
    assert store.join(77, ROOT, "guest") == (base, ["owner"])
    store.release(ROOT, "owner")
    assert store.claim(POOL, 78, ROOT, "other") != base
    store.release(ROOT, "guest")
    assert store.claim(POOL, 79, ROOT, "third") == base


def test_a_namespace_of_nobody_cannot_be_joined(store):
    store.claim(POOL, 77, ROOT, "owner")
    assert store.join(4026531837, ROOT, "guest") is None
    assert [each.id for each in store.holders()] == ["owner"]


def test_an_exhausted_pool_changes_nothing(store):
    small = Pool(100000, 65536, 1)
    store.claim(small, 1, ROOT, "a")
    with pytest.raises(PoolExhausted):
        store.claim(small, 2, ROOT, "b")
    assert [each.id for each in store.holders()] == ["a"]


def test_a_holder_whose_container_is_gone_is_recovered(tmp_path):
    dead: set[str] = set()
    store = Store(str(tmp_path / "ids"), live=lambda holder: holder.id not in dead)
    store.claim(POOL, 1, ROOT, "a")
    store.claim(POOL, 2, ROOT, "b")
    dead.add("a")
    assert store.claim(POOL, 3, ROOT, "c") == 100000
    assert sorted(each.id for each in store.holders()) == ["b", "c"]


def test_the_dead_cannot_be_joined(tmp_path):
    store = Store(str(tmp_path / "ids"), live=lambda holder: False)
    store.claim(POOL, 1, ROOT, "a")
    assert store.join(1, ROOT, "b") is None


def test_a_holder_lives_while_its_state_or_its_creator_does(tmp_path):
    (tmp_path / "there").mkdir()
    root, me = str(tmp_path), os.getpid()
    started = process_start(me)
    assert started
    assert is_live(Holder(1, 1, 0, 0, root, "there"))
    assert is_live(Holder(1, 1, me, started, root, "being-created"))
    assert not is_live(Holder(1, 1, me, started - 1, root, "pid-was-reused"))
    assert not is_live(Holder(1, 1, 2**22 + 1, started, root, "gone"))


@pytest.mark.parametrize("text", ["100000 1 2 3 id", "x 1 2 3 id /run", "100000\t1\t2\t3\tid\t/run", "\0"])
def test_a_damaged_store_is_an_error_not_an_empty_store(text):
    with pytest.raises(ValueError):
        parse(text + "\n")


def test_a_root_with_spaces_survives():
    (holder,) = parse(Holder(100000, 1, 2, 3, "/run/with space", "id").line())
    assert (holder.root, holder.id, holder.base) == ("/run/with space", "id", 100000)


def _claim(directory, number, answers):
    answers.put(Store(directory, live=lambda holder: True).claim(POOL, number, ROOT, f"c{number}"))


def test_fifty_at_once_get_fifty_ranges(tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_claim, args=(str(tmp_path / "ids"), n, answers)) for n in range(50)]
    for each in workers:
        each.start()
    bases = {answers.get(timeout=30) for _ in workers}
    for each in workers:
        each.join()
    assert bases == {100000 + n * 65536 for n in range(50)}
