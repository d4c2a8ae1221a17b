"""Preparation: what it does in which order, and that leaving it gives the range back."""

import json

import pytest

from cofferdam_guest.idrange.pool import Pool
from cofferdam_guest.runtime import start, transform
from cofferdam_guest.runtime.argv import Call
from cofferdam_guest.runtime.errors import Refusal

POOL = Pool(100000, 65536, 3)


@pytest.fixture
def steps(monkeypatch, settings, store, tmp_path):
    """The machine's part played; the steps in order."""
    done = []
    monkeypatch.setattr(start.engine, "load", lambda: settings)
    monkeypatch.setattr(start, "Store", lambda: store)
    monkeypatch.setattr(start, "STAGE", str(tmp_path))
    monkeypatch.setattr(start.libc, "unshare", lambda flags: done.append("private"))
    monkeypatch.setattr(start.mounts, "make_slave", lambda *a: done.append("slave"))
    monkeypatch.setattr(start, "_make_stage", lambda: done.append("stage"))
    monkeypatch.setattr(start.seccomp, "install", lambda: done.append("floor"))
    return done


@pytest.fixture
def call(tmp_path, spec):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/config.json").write_text(json.dumps(spec))
    made = Call(["--root", "/run/runc/moby", "create", "--bundle", str(tmp_path / "made"), "box"])
    made.read_start()
    return made


def claims(monkeypatch, steps, error=None):
    """Let the modifiers claim a range, and then fail or not."""

    def apply(spec, context):
        steps.append("transform")
        context.base = context.store.claim(POOL, 77, context.root, context.container)
        context.claimed = True
        spec["hostname"] = "changed"
        if error is not None:
            raise error

    monkeypatch.setattr(transform, "apply", apply)


def test_the_steps_and_their_order(monkeypatch, steps, call, store, tmp_path):
    claims(monkeypatch, steps)
    with start.prepared(call) as config:
        assert steps == ["private", "slave", "stage", "transform", "floor"]
        with open(config) as file:
            assert json.load(file)["hostname"] == "changed"
        assert [each.id for each in store.holders()] == ["box"]


def test_the_bundle_is_left_as_it_came(monkeypatch, steps, call, tmp_path, spec):
    claims(monkeypatch, steps)
    before = (tmp_path / "made/config.json").read_bytes()
    with start.prepared(call) as config:
        assert config != str(tmp_path / "made/config.json")
    assert (tmp_path / "made/config.json").read_bytes() == before
    assert [each.name for each in (tmp_path / "made").iterdir()] == ["config.json"]


@pytest.mark.parametrize("error", [Refusal("mount", "no"), OSError(5, "disk"), KeyboardInterrupt()], ids=repr)
def test_an_error_while_preparing_gives_the_range_back(monkeypatch, steps, call, store, tmp_path, error):
    claims(monkeypatch, steps, error)
    with pytest.raises(type(error)), start.prepared(call):
        pytest.fail("went on")
    assert store.holders() == []
    assert "floor" not in steps
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no crun"), SystemExit(1)], ids=repr)
def test_an_exec_that_fails_gives_the_range_back(monkeypatch, steps, call, store, error):
    claims(monkeypatch, steps)
    with pytest.raises(type(error)), start.prepared(call):
        raise error
    assert store.holders() == []


def test_an_error_after_the_modifiers_gives_the_range_back(monkeypatch, steps, call, store, tmp_path):
    claims(monkeypatch, steps)
    (tmp_path / "config.json").write_text("in the way")
    with pytest.raises(FileExistsError), start.prepared(call):
        pytest.fail("went on")
    assert store.holders() == []


def test_a_range_that_was_there_before_is_not_given_back(monkeypatch, steps, call, store):
    """A second create of the same name must not free the first one's range."""
    store.claim(POOL, 5, "/run/runc/moby", "box")

    def apply(spec, context):
        raise Refusal("id-range", "exists already")

    monkeypatch.setattr(transform, "apply", apply)
    with pytest.raises(Refusal), start.prepared(call):
        pytest.fail("went on")
    assert [each.id for each in store.holders()] == ["box"]


def test_the_nursery_ends_with_it(monkeypatch, steps, call):
    closed = []

    class Nursery:
        def close(self):
            closed.append(True)

    def apply(spec, context):
        context.nursery = Nursery()
        raise Refusal("mount", "no")

    monkeypatch.setattr(transform, "apply", apply)
    with pytest.raises(Refusal), start.prepared(call):
        pytest.fail("went on")
    assert closed == [True]


def test_without_settings_nothing_begins(monkeypatch, steps, call):
    monkeypatch.setattr(start.engine, "load", lambda: start.engine.parse('{"version": 2}'))
    with pytest.raises(Refusal, match="no usable settings") as caught:
        start.prepared(call)
    assert caught.value.rule == "settings"
    assert steps == []


def test_a_bundle_without_configuration_begins_nothing(steps, call, tmp_path):
    (tmp_path / "made/config.json").unlink()
    with pytest.raises(Refusal), start.prepared(call):
        pytest.fail("went on")
    assert steps == []
