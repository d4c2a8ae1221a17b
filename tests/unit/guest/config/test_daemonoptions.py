"""Options of dockerd: what passes, what isolation overrides, what would keep dockerd from starting."""

from __future__ import annotations

import json

import pytest

from cofferdam_guest.config import daemonoptions
from cofferdam_guest.config.daemonoptions import ALLOWED, OVERRIDDEN, select
from cofferdam_guest.config.positions import parse

VALUES = {
    daemonoptions.BOOLEAN: (True, 1),
    daemonoptions.INTEGER: (7, True),
    daemonoptions.TEXT: ("x", ["x"]),
    daemonoptions.TEXTS: (["x"], [1]),
    daemonoptions.OBJECT: ({"x": {}}, []),
    daemonoptions.TEXT_MAP: ({"max-size": "1m"}, {"max-size": 1}),
    daemonoptions.FLAG_MAP: ({"buildkit": True}, {"buildkit": "true"}),
    daemonoptions.OBJECTS: ([{"base": "10.1.0.0/16", "size": 24}], ["10.1.0.0/16"]),
}


def selected(document):
    return select(parse(json.dumps(document)))


@pytest.mark.parametrize("name", ALLOWED)
def test_an_allowed_option_passes_with_its_type_only(name):
    good, bad = VALUES[ALLOWED[name]]
    assert selected({name: good}) == ({name: good}, [])
    kept, report = selected({name: bad})
    assert kept == {}
    assert report == [("error", f'"{name}" must be a {ALLOWED[name]}')]


@pytest.mark.parametrize("name", OVERRIDDEN)
@pytest.mark.parametrize("value", [True, "x", ["x"], {}, None])
def test_an_overridden_option_never_passes(name, value):
    kept, report = selected({name: value, "mtu": 1400})
    assert kept == {"mtu": 1400}
    assert report == [("warning", f'"{name}" is overridden by isolation: {OVERRIDDEN[name]}')]


WEAKENING = """
hosts tlsverify userns-remap runtimes default-runtime exec-opts data-root exec-root containerd storage-driver cgroup-parent
authorization-plugins seccomp-profile live-restore iptables group selinux-enabled default-cgroupns-mode init-path pidfile debug
metrics-addr userland-proxy-path proxies
"""


@pytest.mark.parametrize("name", WEAKENING.split())
def test_what_could_weaken_isolation_is_overridden(name):
    assert name in OVERRIDDEN and name not in ALLOWED


@pytest.mark.parametrize("name", ["mtus", "Hosts", "HOSTS", "insecure-registry", "$schema", "swarm-raft-election-tick"])
def test_what_dockerd_does_not_know_is_left_out_since_it_would_not_start(name):
    kept, ((level, message),) = selected({name: ["x"]})
    assert (kept, level) == ({}, "warning")
    assert "left out" in message


@pytest.mark.parametrize("key", ["entitlements", "Entitlements", "ENTITLEMENTS"])
def test_entitlements_are_overridden_however_they_are_written(key):
    kept, report = selected({"builder": {"gc": {"enabled": True}, key: {"network-host": True}}})
    assert kept == {"builder": {"gc": {"enabled": True}}}
    assert report[0][0] == "warning"


@pytest.mark.parametrize("key", ["containerd-snapshotter", "Containerd-Snapshotter", "cdi", "windows-dns-proxy"])
def test_only_tested_features_pass(key):
    kept, report = selected({"features": {"buildkit": True, key: True}})
    assert kept == {"features": {"buildkit": True}}
    assert len(report) == 1


def test_a_label_cannot_pretend_to_be_the_policys():
    kept, report = selected({"labels": ["team=a", "cofferdam.policy=fake", "Cofferdam.x=1"]})
    assert kept == {"labels": ["team=a"]}
    assert [level for level, _ in report] == ["warning", "warning"]


def test_a_document_that_is_no_object_is_an_error():
    assert selected([])[1][0][0] == "error"
