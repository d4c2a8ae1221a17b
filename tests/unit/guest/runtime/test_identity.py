"""Ranges, joins, and the namespaces in the specification; the nursery's child and the binds are played."""

import os

import pytest

from cofferdam_guest.idrange.store import Store
from cofferdam_guest.linux import mounts, namespaces
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import identity


class Nursery:
    """User and time namespace are two files."""

    def __init__(self, directory, number):
        self.user, self.time = (self._file(directory / f"{kind}{number}") for kind in ("user", "time"))
        self.mapped, self.closed = [], False

    @staticmethod
    def _file(path):
        path.touch()
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def map_ids(self, base, size):
        self.mapped.append((base, size))

    def close(self):
        self.closed = True


@pytest.fixture
def nurseries(monkeypatch, tmp_path):
    made = []

    def make():
        made.append(Nursery(tmp_path, len(made)))
        return made[-1]

    monkeypatch.setattr(namespaces, "Nursery", make)
    monkeypatch.setattr(mounts, "bind_file", lambda source, target: None)
    return made


@pytest.fixture
def begin(context, monkeypatch, tmp_path, nurseries):
    """A function that starts a container with the given id and joins."""

    def start(name="box", joins=None, owner_of=None, nested=()):
        stage = tmp_path / f"stage-{name}"
        stage.mkdir()
        monkeypatch.setattr(identity, "STAGE", str(stage))
        monkeypatch.setattr(namespaces, "owner", lambda fd: (owner_of or {})[fd])
        monkeypatch.setattr(namespaces, "is_child_of_ours", lambda fd: fd not in nested)
        context.container, context.joins, context.claimed, context.family = name, joins or {}, False, []
        spec = {"linux": {"namespaces": [{"type": "user", "path": "/proc/1/ns/user"}]}}
        identity.modify(spec, context)
        return spec["linux"]

    return start


def test_a_container_gets_a_range_and_all_namespaces(begin, context, nurseries):
    linux = begin()
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    assert linux["uidMappings"] == linux["gidMappings"] == mapping
    assert sorted(each["type"] for each in linux["namespaces"]) == sorted(
        ["mount", "cgroup", "uts", "pid", "ipc", "network", "user", "time"]
    )
    paths = {each["type"]: each.get("path") for each in linux["namespaces"]}
    assert paths["user"] != "/proc/1/ns/user"
    assert [kind for kind, path in paths.items() if path] == ["user", "time"]
    assert nurseries[0].mapped == [(100000, 65536)]
    assert nurseries[0].closed
    assert context.claimed


def test_containers_get_ranges_of_their_own(begin):
    assert [begin(f"c{n}")["uidMappings"][0]["hostID"] for n in range(3)] == [100000, 165536, 231072]


def test_an_exhausted_pool_is_refused_and_nothing_is_claimed(begin, context):
    for n in range(3):
        begin(f"c{n}")
    with pytest.raises(Refusal, match="no user id range is left") as caught:
        begin("c3")
    assert caught.value.rule == "id-range"
    assert not context.claimed


def test_a_container_that_exists_is_refused_and_stays(begin, context, store):
    begin("box")
    with pytest.raises(Refusal, match="exists already"):
        context.joins = {}
        context.claimed = False
        identity.modify({"linux": {}}, context)
    assert not context.claimed
    assert [each.id for each in store.holders()] == ["box"]


@pytest.fixture
def foreign(tmp_path):
    """Descriptors of other namespaces."""
    fds = []
    for name in ("net", "pid", "ipc"):
        (tmp_path / name).touch()
        fds.append(os.open(tmp_path / name, os.O_RDONLY))
    yield fds
    for fd in fds:
        os.close(fd)


def test_joining_means_the_others_user_namespace_and_range(begin, context, nurseries, foreign):
    begin("owner")
    user = nurseries[0].user
    linux = begin("guest", {"network": foreign[0], "pid": foreign[1]}, {foreign[0]: user, foreign[1]: user})
    assert linux["uidMappings"][0]["hostID"] == 100000
    assert context.userns == user
    assert context.family == ["owner"]
    assert nurseries[1].mapped == []
    assert {each["type"] for each in linux["namespaces"] if "path" in each} == {"network", "pid", "user", "time"}


def test_a_namespace_of_no_container_of_ours_cannot_be_joined(begin, context, foreign):
    """A network that the VM itself made, or one of a user namespace inside a container."""
    begin("somebody")
    stranger = os.open("/proc/self/ns/user", os.O_RDONLY)
    with pytest.raises(Refusal, match=r"namespaces \[network\] that belong to no container"):
        begin("guest", {"network": foreign[0]}, {foreign[0]: stranger})
    assert not context.claimed


def test_namespaces_of_several_containers_cannot_be_joined(begin, context, nurseries, foreign, store):
    begin("a")
    begin("b")
    owners = {foreign[0]: nurseries[0].user, foreign[1]: nurseries[1].user}
    with pytest.raises(Refusal, match=r"namespaces \[network pid\] of several containers"):
        begin("guest", {"network": foreign[0], "pid": foreign[1]}, owners)
    assert not context.claimed
    assert sorted(each.id for each in store.holders()) == ["a", "b"]


def test_a_namespace_nested_in_a_container_cannot_be_joined(begin, context, nurseries, foreign):
    """Its number may be the one that a holder's namespace had."""
    begin("owner")
    user = nurseries[0].user
    with pytest.raises(Refusal, match="belong to no container"):
        begin("guest", {"network": foreign[0]}, {foreign[0]: user}, nested=(user,))
    assert not context.claimed


def test_a_dead_owner_cannot_be_joined(begin, context, nurseries, foreign, tmp_path):
    begin("owner")
    context.store = Store(str(tmp_path / "ids"), live=lambda holder: False)
    with pytest.raises(Refusal, match="belong to no container"):
        begin("guest", {"ipc": foreign[2]}, {foreign[2]: nurseries[0].user})
