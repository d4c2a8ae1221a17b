"""The effective policy: one text, one hash, read back strictly."""

from __future__ import annotations

import dataclasses
import json

import pytest

from cofferdam_guest.config.policy import Policy, PolicyError, canonical_json, deny_all, from_json

FULL = Policy(
    sources=("image", "boot"),
    socket_images=("docker.io/library/docker:cli", "docker.io/localstack/localstack:*"),
    allow_derived=True,
    command_mode="allow",
    commands=("ps", "container*"),
    block_load=True,
    registries=("docker.io", "*.example.com"),
    mounts_allow_read_only=("/srv/a",),
    mounts_allow_read_write=("/srv/b",),
    mounts_deny=("/host/secret",),
    shares=("$HOME", "/ü"),
    shares_default=("/ü",),
    daemon_options={"mtu": 1400, "log-opts": {"max-size": "1m"}, "dns": ["10.0.2.3"]},
    proxies={"http": "http://proxy.example.com:3128", "no": "localhost"},
)
OTHER = {
    "denied": "reason",
    "sources": ("image",),
    "socket_images": ("*",),
    "allow_derived": False,
    "command_mode": "deny",
    "commands": (),
    "block_load": False,
    "registries": None,
    "mounts_allow_read_only": (),
    "mounts_allow_read_write": (),
    "mounts_deny": (),
    "shares": None,
    "shares_default": (),
    "daemon_options": {},
    "proxies": {},
}


@pytest.mark.parametrize("policy", [Policy(), FULL, deny_all("why")])
def test_what_is_written_reads_back_the_same(policy):
    text = canonical_json(policy)
    assert from_json(text) == policy
    assert from_json(text).sha256 == policy.sha256
    assert len(policy.sha256) == 64
    assert text.isascii() and "\n" not in text and canonical_json(from_json(text)) == text


def test_the_hash_is_that_of_the_text():
    import hashlib

    assert FULL.sha256 == hashlib.sha256(canonical_json(FULL).encode()).hexdigest()
    assert FULL.label == FULL.sha256[:12]


@pytest.mark.parametrize("field", OTHER)
def test_every_field_changes_the_hash(field):
    assert set(OTHER) == {each.name for each in dataclasses.fields(Policy)} - {"sha256"}
    changed = dataclasses.replace(FULL, **{field: OTHER[field]})
    assert changed.sha256 != FULL.sha256


def test_the_order_of_keys_does_not_change_the_hash():
    turned = dataclasses.replace(FULL, daemon_options=dict(reversed(FULL.daemon_options.items())))
    assert turned.sha256 == FULL.sha256


def test_deny_all_allows_nothing_and_says_why():
    policy = deny_all("the file is missing")
    assert policy.denied == "the file is missing"
    assert (policy.socket_images, policy.command_mode, policy.commands) == ((), "allow", ())
    assert (policy.block_load, policy.registries, policy.label) == (True, (), "deny-all")
    assert deny_all("").denied, "an empty reason would read as no denial"


def altered(**changes):
    document = json.loads(canonical_json(FULL))
    for key, value in changes.items():
        if value is ...:
            del document[key]
        else:
            document[key] = value
    return json.dumps(document)


WRONG = {"denied": None, "allow_derived": 1, "block_load": "true", "command_mode": "allowed", "registries": [1], "commands": "ps"}
WRONG |= {"socket_images": None, "mounts_deny": [None], "daemon_options": [], "proxies": {"http": 1}, "format": 2, "shares": {}}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_value_is_refused_and_named(key):
    with pytest.raises(PolicyError, match=key):
        from_json(altered(**{key: WRONG[key]}))


@pytest.mark.parametrize("key", [*OTHER, "format"])
def test_no_key_may_be_missing(key):
    with pytest.raises(PolicyError, match=f"lacks {key}"):
        from_json(altered(**{key: ...}))


def test_unknown_keys_and_proxies_are_refused():
    with pytest.raises(PolicyError, match="unknown key extra"):
        from_json(altered(extra=1))
    with pytest.raises(PolicyError, match="proxies"):
        from_json(altered(proxies={"ftp": "x"}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format":1}', canonical_json(FULL)[:-1], canonical_json(FULL) + "x"])
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(PolicyError):
        from_json(text)


def test_a_policy_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.denied = ""
