"""The VM's namespaces are refused by identity, those of others are opened once. An ordinary file can stand for a namespace."""

import os

import pytest

from cofferdam_guest.linux import namespaces as kernel
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import namespaces

HOST = (
    "error in the container spec: invalid or unsupported container spec: sysbox containers can't share namespaces [{}]"
    " with the host (because they use the linux user-namespace for isolation)"
)
NETWORK = (
    "error in the container spec: invalid or unsupported container spec: sysbox containers can't share a network namespace"
    " with the host (because they use the linux user-namespace for isolation)"
)


@pytest.fixture(autouse=True)
def first_process(monkeypatch, tmp_path):
    """Give process 1 namespaces of its own, by default none of this process's: reading the real ones takes root."""
    real, own = kernel.of, {}

    def of(process, kind):
        return own.get(kind, (0, 0)) if process == "1" else real(process, kind)

    monkeypatch.setattr(kernel, "of", of)
    return own


@pytest.fixture
def worded(monkeypatch):
    """The texts as the reference has them, with the name that stands in it."""
    monkeypatch.setattr(namespaces, "NAME", "sysbox")


def with_path(spec, kind, path):
    for each in spec["linux"]["namespaces"]:
        if each["type"] == kind:
            each["path"] = str(path)
            return spec
    spec["linux"]["namespaces"].append({"type": kind, "path": str(path)})
    return spec


def without(spec, *kinds):
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] not in kinds]
    return spec


def test_an_ordinary_container_joins_nothing(spec, context):
    namespaces.modify(spec, context)
    assert context.joins == {}


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts", "mount"])
def test_a_missing_namespace_is_the_hosts(spec, context, worded, kind):
    with pytest.raises(Refusal) as caught:
        namespaces.modify(without(spec, kind), context)
    assert str(caught.value) == HOST.format(kind)
    assert caught.value.rule == "host-namespace"


def test_all_missing_namespaces_are_named_at_once(spec, context, worded):
    with pytest.raises(Refusal) as caught:
        namespaces.modify(without(spec, "ipc", "pid"), context)
    assert str(caught.value) == HOST.format("pid ipc")


def test_a_missing_network_namespace_is_the_hosts(spec, context, worded):
    with pytest.raises(Refusal) as caught:
        namespaces.modify(without(spec, "network"), context)
    assert str(caught.value) == NETWORK


def test_the_cgroup_and_user_namespace_need_not_be_asked_for(spec, context):
    namespaces.modify(without(spec, "cgroup"), context)


@pytest.mark.parametrize(("kind", "name"), [("pid", "pid"), ("ipc", "ipc"), ("network", "net")])
def test_the_own_namespace_by_path_is_the_hosts(spec, context, worded, kind, name):
    with pytest.raises(Refusal) as caught:
        namespaces.modify(with_path(spec, kind, f"/proc/self/ns/{name}"), context)
    assert str(caught.value) == (NETWORK if kind == "network" else HOST.format(kind))


@pytest.mark.parametrize("kind", ["pid", "ipc", "network"])
def test_the_namespace_of_the_first_process_by_any_path_is_the_hosts(spec, context, worded, tmp_path, first_process, kind):
    file, link = tmp_path / "bound", tmp_path / "link"
    file.touch()
    link.symlink_to(file)
    first_process[namespaces.JOINABLE[kind]] = (file.stat().st_dev, file.stat().st_ino)
    with pytest.raises(Refusal) as caught:
        namespaces.modify(with_path(spec, kind, link), context)
    assert str(caught.value) == (NETWORK if kind == "network" else HOST.format(kind))


@pytest.mark.parametrize("kind", ["pid", "ipc", "network"])
def test_somebody_elses_namespace_is_opened(spec, context, tmp_path, kind):
    file = tmp_path / "ns"
    file.touch()
    namespaces.modify(with_path(spec, kind, file), context)
    file.rename(tmp_path / "moved")  # a later swap changes nothing
    assert set(context.joins) == {kind}
    assert os.fstat(context.joins[kind]).st_ino == (tmp_path / "moved").stat().st_ino
    assert not os.get_inheritable(context.joins[kind])


@pytest.mark.parametrize("kind", ["mount", "uts", "net", "unheard-of"])
def test_other_kinds_cannot_be_joined(spec, context, tmp_path, kind):
    (tmp_path / "ns").touch()
    with pytest.raises(Refusal, match=f"can't join the {kind} namespace"):
        namespaces.modify(with_path(spec, kind, tmp_path / "ns"), context)


@pytest.mark.parametrize("kind", ["user", "cgroup", "time"])
def test_a_path_for_what_the_wrapper_makes_itself_is_ignored(spec, context, kind):
    namespaces.modify(with_path(spec, kind, f"/proc/self/ns/{kind}"), context)
    assert context.joins == {}


def test_a_namespace_that_is_gone_is_refused(spec, context, tmp_path):
    with pytest.raises(Refusal, match="network namespace to join is gone"):
        namespaces.modify(with_path(spec, "network", tmp_path / "absent"), context)
