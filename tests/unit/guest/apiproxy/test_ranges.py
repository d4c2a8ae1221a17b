"""The id range in the answer to an inspect; the store is the real one."""

import json

import pytest

from cofferdam.paths import ROOT
from cofferdam_guest.apiproxy import amend, ranges
from cofferdam_guest.apiproxy.ranges import with_range
from cofferdam_guest.config.policy import Policy
from cofferdam_guest.idrange.pool import Pool
from cofferdam_guest.idrange.store import Store

SETTINGS = str(ROOT / "vm/rootfs/overlay/base/etc/cofferdam/engine.json")


@pytest.fixture
def directory(tmp_path):
    store = Store(str(tmp_path), live=lambda _: True)
    for number, name in enumerate(("first", "second")):
        store.claim(Pool(100000, 65536, 10), 40 + number, "/run/docker/runtime-runc/moby", name)
    store.join(41, "/run/docker/runtime-runc/moby", "guest-of-second")
    return str(tmp_path)


@pytest.mark.parametrize(("container", "first"), [("first", 100000), ("second", 165536), ("guest-of-second", 165536)])
def test_a_running_container_has_its_range(directory, container, first):
    document = {"Id": container, "Name": "/x"}
    shown = with_range(document, directory, SETTINGS)
    assert shown == {**document, "Cofferdam": {"IdRange": {"First": first, "Size": 65536}}}


def test_others_are_shown_as_dockerd_shows_them(directory, tmp_path):
    for document in ({"Id": "stranger"}, {"Id": None}, {}):
        assert with_range(document, directory, SETTINGS) == document
    document = {"Id": "first"}
    assert with_range(document, str(tmp_path / "none"), SETTINGS) == document
    assert with_range(document, directory, str(tmp_path / "none")) == document
    (tmp_path / "holders").write_text("rubbish\n")
    assert with_range(document, directory, SETTINGS) == document
    assert not (tmp_path / "none").exists(), "looking makes nothing"


def test_the_answer_to_an_inspect_is_amended(directory, monkeypatch):
    monkeypatch.setattr(ranges.with_range, "__defaults__", (directory, SETTINGS))
    body = json.dumps({"Id": "second", "HostConfig": {"NanoCpus": 2**60 + 1}}).encode()
    shown = json.loads(amend.amended("ContainerInspect", body, Policy()))
    assert shown["Cofferdam"]["IdRange"]["First"] == 165536
    assert shown["HostConfig"] == {"NanoCpus": 2**60 + 1}
