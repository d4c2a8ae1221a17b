"""The image's file and the one at boot: locked values stay, others give way."""

from __future__ import annotations

import json

import pytest

from cofferdam_guest.config import admin
from cofferdam_guest.config.effective import effective

SOCKET = {"dockerSocketMount": {"imageList": {"images": ["docker:cli"]}}}
OTHER_SOCKET = {"dockerSocketMount": {"imageList": {"images": ["*"]}}}
MANUAL = {"mode": "manual", "http": "http://a.example.com:1", "https": "http://a.example.com:1"}
OTHER_MANUAL = {"mode": "manual", "http": "http://b.example.com:1", "https": "http://b.example.com:1"}

# key -> (the image's value, the value at boot, field of the policy)
LOCKABLE = {
    "enhancedContainerIsolation": (SOCKET, OTHER_SOCKET, "socket_images"),
    "blockDockerLoad": ({"value": True}, {"value": False}, "block_load"),
    "linuxVM.dockerDaemonOptions": ({"value": '{"mtu": 1}'}, {"value": '{"mtu": 2}'}, "daemon_options"),
    "containersProxy": (MANUAL, OTHER_MANUAL, "proxies"),
    "proxy": (MANUAL, OTHER_MANUAL, "proxies"),
    "cofferdam.restrictedMounts": ({"deny": ["/a"]}, {"allowReadWrite": ["/b"]}, "mounts_allow_read_write"),
    "cofferdam.registries": ({"allowed": ["a.example.com"]}, {"allowed": ["b.example.com"]}, "registries"),
}


def settings(path, value):
    for part in reversed(path.split(".")):
        value = {part: value}
    return admin.load(json.dumps(value).encode(), "f")


def alone(value):
    return effective(value).policy


@pytest.mark.parametrize("path", LOCKABLE)
def test_a_locked_value_of_the_image_stays_and_the_boots_is_told_to_be_ignored(path):
    ours, theirs, field = LOCKABLE[path]
    baked, boot = settings(path, {**ours, "locked": True}), settings(path, {**theirs, "locked": True})
    found = effective(baked, boot)
    assert getattr(found.policy, field) == getattr(alone(baked), field)
    assert getattr(found.policy, field) != getattr(alone(boot), field)
    assert len(found.ignored) == len(found.notes) == 1
    assert "the image locks" in found.notes[0] and path.partition(".")[0] in found.notes[0]


@pytest.mark.parametrize("path", LOCKABLE)
def test_an_unlocked_value_gives_way(path):
    ours, theirs, field = LOCKABLE[path]
    found = effective(settings(path, {**ours, "locked": False}), settings(path, theirs))
    assert getattr(found.policy, field) == getattr(alone(settings(path, theirs)), field)
    assert found.ignored == ()


@pytest.mark.parametrize("path", LOCKABLE)
def test_what_the_boots_file_does_not_mention_stays(path):
    ours, _, field = LOCKABLE[path]
    baked = settings(path, ours)
    assert getattr(effective(baked, admin.load(b"{}", "f")).policy, field) == getattr(alone(baked), field)


@pytest.mark.parametrize("path", LOCKABLE)
def test_a_lock_without_a_value_locks_the_default(path):
    _, theirs, field = LOCKABLE[path]
    found = effective(settings(path, {"locked": True}), settings(path, theirs))
    assert getattr(found.policy, field) == getattr(alone(admin.load(b"{}", "f")), field)


def test_the_same_value_at_boot_is_not_told():
    value = settings("blockDockerLoad", {"locked": True, "value": True})
    assert effective(value, value).ignored == ()


def test_shared_folders_are_always_locked():
    baked = settings("filesharingAllowedDirectories", [{"path": "/a"}])
    boot = settings("filesharingAllowedDirectories", [{"path": "/b"}])
    found = effective(baked, boot)
    assert (found.policy.shares, found.ignored) == (("/a",), ("filesharingAllowedDirectories",))


def test_a_locked_proxy_is_not_gone_around_by_one_for_containers():
    found = effective(settings("proxy", {**MANUAL, "locked": True}), settings("containersProxy", {"mode": "system"}))
    assert found.policy.proxies["http"] == "http://a.example.com:1"
    assert found.ignored == ("containersProxy",)


def test_a_locked_way_out_that_is_closed_stays_closed():
    baked = settings("containersProxy", {"locked": True, "mode": "manual", "http": "", "https": ""})
    boot = settings("cofferdam.registries", {"allowed": ["docker.io"]})
    assert effective(baked, boot).policy.registries == ()


def test_sources_are_named():
    empty = admin.load(b"{}", "f")
    assert [effective(*files).policy.sources for files in ((empty,), (empty, empty), (None, empty))] == [
        ("image",),
        ("image", "boot"),
        ("boot",),
    ]
