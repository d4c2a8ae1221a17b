"""admin-settings.json: what each key means here, what is warned about, what makes the file unusable, and where."""

from __future__ import annotations

import json

import pytest

from cofferdam_guest.config import admin
from cofferdam_guest.config.adminkeys import APPLIED, BOOLEAN, DESKTOP, FOLDERS, INTEGER, KEYS, TEXT, TEXTS, UNENFORCED
from cofferdam_guest.config.effective import effective

GOOD = {BOOLEAN: True, INTEGER: 2, TEXT: "", TEXTS: [], FOLDERS: []}
BAD = {BOOLEAN: "true", INTEGER: True, TEXT: 1, TEXTS: "a", FOLDERS: {}}


def document(path, value):
    for part in reversed(path.split(".")):
        value = {part: value}
    return json.dumps(value).encode()


def read(value):
    return admin.read(value if isinstance(value, bytes) else json.dumps(value).encode())


def policy_of(value):
    found = read(value)
    assert found.settings is not None, found.errors
    return effective(found.settings).policy


def socket(images=(), commands=(), kind="deny", **more):
    lists = {"imageList": {"images": list(images), **more}, "commandList": {"type": kind, "commands": list(commands)}}
    return {"enhancedContainerIsolation": {"locked": True, "value": True, "dockerSocketMount": lists}}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_every_key_is_read_with_its_type(key):
    value = key.choices[0] if key.choices else GOOD[key.kind]
    found = admin.read(document(key.path, value))
    assert found.errors == ()
    levels = {finding.level for finding in found.findings if "unknown" in finding.message}
    assert levels == set()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
@pytest.mark.parametrize("value", ["bad", None], ids=["wrong type", "null"])
def test_every_key_refuses_another_type_and_names_itself(key, value):
    found = admin.read(document(key.path, BAD[key.kind] if value else None))
    (error,) = found.errors
    assert error.key == key.path
    assert found.settings is None


@pytest.mark.parametrize("key", [key for key in KEYS if key.choices], ids=lambda key: key.path)
def test_a_text_outside_the_choices_is_an_error(key):
    (error,) = admin.read(document(key.path, "something")).errors
    assert key.choices[0] in error.message


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_what_does_nothing_here_is_told(key):
    levels = {
        finding.level for finding in admin.read(document(key.path, key.choices[0] if key.choices else GOOD[key.kind])).findings
    }
    expected = {DESKTOP: {"note"}, UNENFORCED: {"warning"}}.get(key.status, set())
    if key.path.endswith(".locked"):
        # A lock without a value locks the default: worth telling where the setting does something here.
        assert levels <= ({"warning"} if key.status == APPLIED else set())
    else:
        assert levels == expected


def test_keys_are_in_the_table_once():
    paths = [key.path for key in KEYS]
    assert len(paths) == len(set(paths)) > 70


def test_an_empty_object_is_a_good_file_that_allows_what_is_default():
    assert policy_of({}) == effective(None, None).policy.__class__(sources=("image",))


def test_the_file_of_dockers_documentation_is_followed():
    policy = policy_of(
        {"configurationFileVersion": 2, **socket(["docker.io/localstack/localstack:*", "docker:cli"], ["push", "build"])}
    )
    assert policy.socket_images == ("docker.io/localstack/localstack:*", "docker.io/library/docker:cli")
    assert (policy.command_mode, policy.commands, policy.allow_derived) == ("deny", ("push", "build"), False)


def test_derived_images_are_allowed_only_when_asked_for():
    assert policy_of(socket(["docker:cli"], allowDerivedImages=True)).allow_derived


def test_any_image_is_a_warning():
    found = read(socket(["*", "docker:cli"]))
    assert "every container" in found.findings[0].message
    assert policy_of(socket(["*"])).socket_images == ("*",)


@pytest.mark.parametrize(
    ("value", "key", "says"),
    [
        (socket(["testcontainers/*:*"]), "images", "repositories have no wildcard"),
        (socket(["Docker"]), "images", "lower case"),
        (socket([], ["compose"]), "commands", "not supported"),
        (socket([], ["pish"]), "commands", 'did you mean "push"'),
        (socket([], [], "denied"), "type", "deny, allow"),
        ({"cofferdam": {"registries": {"allowed": ["*"]}}}, "allowed", "leave `allowed` out"),
        ({"cofferdam": {"registries": {"allowed": ["https://a.example.com"]}}}, "allowed", "not a registry host"),
        ({"cofferdam": {"restrictedMounts": {"deny": ["relative"]}}}, "deny", "absolute path"),
        ({"cofferdam": {"restrictedMounts": {"deny": ["/a/../b"]}}}, "deny", "absolute path"),
        ({"cofferdam": {"restrictedMounts": {"allowReadOnly": ["/a\0b"]}}}, "allowReadOnly", "absolute path"),
        ({"containersProxy": {"mode": "manual", "http": "proxy:3128"}}, "http", "http://HOST:PORT"),
        ({"filesharingAllowedDirectories": [{"sharedByDefault": True}]}, "filesharingAllowedDirectories", '"path"'),
        ({"filesharingAllowedDirectories": [{"path": "/a", "sharedByDefault": 1}]}, "filesharingAllowedDirectories", "sharedBy"),
        ({"configurationFileVersion": 3}, "configurationFileVersion", "not known"),
    ],
)
def test_wrong_values_are_errors_that_say_what_to_do(value, key, says):
    (error,) = read(value).errors
    assert error.key.endswith(key)
    assert says in error.message


@pytest.mark.parametrize("kind", ["allowReadOnly", "allowReadWrite"])
@pytest.mark.parametrize(
    "path",
    ["/", "/proc", "/proc/sys", "/run/docker.sock", "/run", "/var/run/docker.sock", "/var", "/var/lib/docker/x", "/etc", "/dev"],
)
def test_what_isolation_rests_on_cannot_be_allowed(kind, path):
    (error,) = read({"cofferdam": {"restrictedMounts": {kind: [path]}}}).errors
    assert "isolation rests on" in error.message


@pytest.mark.parametrize("path", ["/srv/tools", "/usr/share/zoneinfo", "/variable", "/runner", "/var/lib/dockerish"])
def test_other_paths_can_be_allowed_and_any_can_be_denied(path):
    policy = policy_of({"cofferdam": {"restrictedMounts": {"allowReadWrite": [path], "deny": ["/", "/run", path]}}})
    assert (policy.mounts_allow_read_write, policy.mounts_deny) == ((path,), ("/", "/run", path))


def test_registries_are_hosts_in_lower_case():
    policy = policy_of(
        {"cofferdam": {"registries": {"allowed": ["docker.io", "*.Example.com", "r.example.com:5000", "docker.io"]}}}
    )
    assert policy.registries == ("docker.io", "*.example.com", "r.example.com:5000")
    assert policy_of({"cofferdam": {"registries": {"allowed": []}}}).registries == ()
    assert policy_of({}).registries is None


def test_isolation_cannot_be_turned_off():
    (finding,) = read({"enhancedContainerIsolation": {"value": False}}).findings
    assert (finding.level, finding.key) == ("warning", "enhancedContainerIsolation.value")
    assert "stays on" in finding.message


@pytest.mark.parametrize(
    ("value", "key", "says"),
    [
        ({"blockDockerlod": {"value": True}}, "blockDockerlod", 'did you mean "blockDockerLoad"'),
        ({"enhancedContainerIsolation": {"dockerSocketMount": {"locked": True}}}, "dockerSocketMount.locked", "unknown key"),
        ({"dockerSocketMount": {}}, "dockerSocketMount", 'there is "enhancedContainerIsolation.dockerSocketMount"'),
        ({"registries": {}}, "registries", 'there is "cofferdam.registries"'),
    ],
)
def test_unknown_keys_are_warnings_with_the_nearest(value, key, says):
    found = read(value)
    assert found.settings is not None
    assert (found.findings[0].level, found.findings[0].key.endswith(key)) == ("warning", True)
    assert says in found.findings[0].message


def test_another_spelling_of_a_key_counts_as_docker_desktop_counts_it():
    value = {"BLOCKDOCKERLOAD": {"Value": True}}
    assert policy_of(value).block_load
    assert [finding.level for finding in read(value).findings] == ["warning", "warning"]
    (error,) = read({"blockDockerLoad": {"value": False}, "BlockDockerLoad": {"value": True}}).errors
    assert "twice" in error.message


@pytest.mark.parametrize(
    ("data", "place", "says"),
    [
        (b'{\n "blockDockerLoad": {"value": true,}\n}', (2, 35), "trailing comma"),
        (b"{\n  // ours\n}", (2, 3), "comments"),
        (b'{\n "a": 1\n "b": 2}', (3, 2), "missing"),
        (b"", (1, 1), "empty"),
        (b"[]", (1, 1), "must be an object"),
        (b'{"blockDockerLoad": true}', (1, 21), "must be an object"),
        (b'{"blockDockerLoad": {"value":\n  "yes"}}', (2, 3), 'not the text "yes"'),
    ],
)
def test_errors_have_their_place_in_the_file(data, place, says):
    (error,) = admin.read(data).errors
    assert (error.line, error.column) == place
    assert says in error.message
    with pytest.raises(admin.AdminError, match=rf"^f\.json:{place[0]}:{place[1]}: error: "):
        admin.load(data, "f.json")


def options(text):
    return {"linuxVM": {"dockerDaemonOptions": {"locked": True, "value": text}}}


def test_daemon_options_are_a_text_with_json_inside():
    assert policy_of(options('{"mtu": 1400, "dns": ["10.0.0.1"]}')).daemon_options == {"mtu": 1400, "dns": ["10.0.0.1"]}
    assert policy_of(options("")).daemon_options == {}
    (error,) = read(options('{"mtu": 1400,}')).errors
    assert "line 1, column 13: trailing comma" in error.message


def test_proxies_of_the_engine():
    proxy = {"mode": "manual", "http": "http://p.example.com:1", "https": "http://p.example.com:2", "exclude": ["a", "b"]}
    expected = {"http": "http://p.example.com:1", "https": "http://p.example.com:2", "no": "a,b"}
    assert policy_of({"containersProxy": proxy}).proxies == expected
    assert policy_of({"proxy": proxy}).proxies == expected, "what Docker Desktop falls back to"
    assert policy_of({"proxy": proxy, "containersProxy": {"mode": "system"}}).proxies == {}
    assert policy_of({"containersProxy": {**proxy, "mode": "system"}}).proxies == {}


@pytest.mark.parametrize("more", [{}, {"pac": "http://p.example.com/p.pac"}, {"http": "http://p:1", "embeddedPac": "function"}])
def test_a_proxy_that_cannot_be_followed_closes_every_registry(more):
    value = {"containersProxy": {"locked": True, "mode": "manual", "http": "", "https": "", "exclude": [], **more}}
    assert (policy_of(value).proxies, policy_of(value).registries) == ({}, ())
    assert [finding.level for finding in read(value).findings] == ["warning"]


def test_one_proxy_of_two_is_a_warning():
    (finding,) = read({"containersProxy": {"mode": "manual", "http": "http://p:1"}}).findings
    assert "without a proxy" in finding.message


def test_containers_own_connections_are_told_to_be_free():
    found = read({"containersProxy": {"mode": "system", "transparentPorts": "*"}})
    assert [(each.level, each.key) for each in found.findings] == [("warning", "containersProxy.transparentPorts")]


def test_shared_folders_keep_their_variables():
    policy = policy_of({"filesharingAllowedDirectories": [{"path": "$HOME", "sharedByDefault": True}, {"path": "/data"}]})
    assert policy.shares == ("$HOME", "/data")
