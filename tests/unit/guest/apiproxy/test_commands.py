"""The command list: one row per name of the map and per trap."""

from __future__ import annotations

import pytest

from cofferdam_guest.apiproxy.commands import ALWAYS, COMMANDS, allowed, blocked_by, denial
from cofferdam_guest.apiproxy.query import check
from cofferdam_guest.apiproxy.routes import ROUTES, match
from cofferdam_guest.apiproxy.target import parse


def passes(mode: str, commands: str, request_line: str) -> bool:
    method, raw = request_line.split(" ")
    target = parse(raw.encode())
    route = match(method, target.path).route
    return allowed(mode, commands.split(), route.id, check(route.query, target.query))


# name, what it lets through in an allow list and blocks in a deny list, what it leaves alone
ROWS = [
    ("ps", ["GET /containers/json"], "GET /containers/a/json"),
    ("create", ["POST /containers/create"], "POST /containers/a/start"),
    ("run", ["POST /containers/create"], "POST /images/create?fromImage=a"),
    ("start", ["POST /containers/a/start"], "POST /containers/a/stop"),
    ("stop", ["POST /containers/a/stop"], "POST /containers/a/kill"),
    ("restart", ["POST /containers/a/restart"], "POST /containers/a/start"),
    ("kill", ["POST /containers/a/kill"], "POST /containers/a/stop"),
    ("pause", ["POST /containers/a/pause"], "POST /containers/a/unpause"),
    ("unpause", ["POST /containers/a/unpause"], "POST /containers/a/pause"),
    ("rename", ["POST /containers/a/rename?name=b"], "POST /containers/a/update"),
    ("update", ["POST /containers/a/update"], "POST /containers/create"),
    ("wait", ["POST /containers/a/wait"], "POST /containers/a/attach"),
    ("rm", ["DELETE /containers/a"], "POST /containers/prune"),
    ("attach", ["POST /containers/a/attach", "GET /containers/a/attach/ws"], "POST /containers/a/exec"),
    ("exec", ["POST /containers/a/exec", "POST /exec/a/start"], "POST /containers/a/attach"),
    ("logs", ["GET /containers/a/logs"], "GET /containers/a/top"),
    ("top", ["GET /containers/a/top"], "GET /containers/a/logs"),
    ("stats", ["GET /containers/a/stats"], "GET /containers/a/top"),
    ("diff", ["GET /containers/a/changes"], "GET /containers/a/export"),
    ("export", ["GET /containers/a/export"], "GET /containers/a/archive?path=/"),
    ("port", ["GET /containers/a/json"], "GET /containers/json"),
    ("cp", [f"{verb} /containers/a/archive?path=/" for verb in ("HEAD", "GET", "PUT")], "GET /containers/a/export"),
    ("commit", ["POST /commit?container=a"], "POST /images/a/tag"),
    ("images", ["GET /images/json"], "GET /images/a/json"),
    ("pull", ["POST /images/create?fromImage=a"], "POST /images/create?fromSrc=-"),
    ("import", ["POST /images/create?fromSrc=-"], "POST /images/create?fromImage=a"),
    ("push", ["POST /images/a/push", "POST /images/foo/tag/push?tag=x"], "POST /images/a/push/tag"),
    ("tag", ["POST /images/a/tag"], "POST /images/a/push"),
    ("history", ["GET /images/a/history"], "GET /images/a/json"),
    ("rmi", ["DELETE /images/a"], "POST /images/prune"),
    ("save", ["GET /images/get?names=a", "GET /images/a/get"], "POST /images/load"),
    ("load", ["POST /images/load"], "GET /images/get"),
    ("search", ["GET /images/search?term=a"], "GET /images/json"),
    *(
        (name, ["POST /build", "POST /session", "POST /grpc", "POST /build/cancel"], "POST /build/prune")
        for name in ("build", "bake", "buildx")
    ),
    ("builder", ["POST /build", "POST /build/prune"], "POST /images/prune"),
    ("info", ["GET /info"], "GET /system/df"),
    ("events", ["GET /events"], "GET /info"),
    ("login", ["POST /auth"], "GET /events"),
    (
        "inspect",
        [f"GET /{kind}/a" for kind in ("networks", "volumes", "nodes", "services", "tasks", "secrets", "configs")],
        "GET /info",
    ),
    ("inspect", [f"GET /{kind}/a/json" for kind in ("containers", "images", "plugins")], "GET /containers/json"),
    ("swarm", ["GET /swarm", "POST /swarm/init"], "GET /nodes"),
    ("node", ["GET /nodes", "GET /nodes/a"], "GET /services"),
    ("service", ["GET /services", "POST /services/create"], "GET /nodes"),
    ("stack", ["GET /services", "GET /tasks"], "GET /secrets"),
    ("secret", ["GET /secrets"], "GET /configs"),
    ("config", ["GET /configs"], "GET /secrets"),
    ("checkpoint", ["GET /containers/a/checkpoints"], "GET /containers/a/json"),
    (
        "container*",
        ["POST /containers/create", "POST /exec/a/start", "GET /containers/json", "POST /commit?container=a"],
        "GET /images/json",
    ),
    ("container*", ["POST /containers/prune", "PUT /containers/a/archive?path=/", "DELETE /containers/a"], "POST /images/prune"),
    (
        "image*",
        ["GET /images/json", "POST /images/create?fromImage=a", "POST /images/a/push", "POST /images/load"],
        "POST /containers/create",
    ),
    ("image*", ["POST /build", "POST /session", "POST /grpc"], "POST /build/prune"),
    (
        "volume*",
        ["GET /volumes", "GET /volumes/a", "POST /volumes/create", "DELETE /volumes/a", "POST /volumes/prune"],
        "GET /networks",
    ),
    ("network*", ["GET /networks", "POST /networks/create", "POST /networks/a/connect", "DELETE /networks/a"], "GET /volumes"),
    ("build*", ["POST /build", "POST /build/prune", "POST /session", "POST /grpc"], "POST /images/load"),
    ("system*", ["GET /info", "GET /events", "GET /system/df", "POST /auth"], "GET /containers/json"),
    ("system*", [f"POST /{kind}/prune" for kind in ("containers", "networks", "volumes", "images", "build")], "GET /volumes"),
]


@pytest.mark.parametrize(("name", "requests", "other"), ROWS)
def test_a_name_stands_for_its_requests_in_both_modes(name, requests, other):
    for request in requests:
        assert not passes("deny", name, request), request
        assert passes("allow", name, request), request
        assert passes("deny", "search" if name != "search" else "ps", request), request
        assert not passes("allow", "search" if name != "search" else "ps", request), request
    assert passes("deny", name, other)
    assert not passes("allow", name, other)


def test_every_name_has_a_row():
    assert set(COMMANDS) == {row[0] for row in ROWS} | {"version", "completion", "context", "logout"}


@pytest.mark.parametrize("request_line", ["GET /_ping", "HEAD /_ping", "GET /version", "GET /v1.45/version"])
def test_what_every_client_needs_is_always_let_through(request_line):
    assert passes("allow", "", request_line)
    assert passes("deny", " ".join(COMMANDS), request_line)


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("run", ["POST /containers/create", "POST /containers/a/attach", "POST /containers/a/wait?condition=removed"]),
        ("run", ["POST /containers/a/start", "POST /containers/a/resize?h=1&w=1"]),
        ("exec", ["GET /containers/a/json", "POST /exec/a/resize?h=1&w=1", "GET /exec/a/json"]),
        ("attach", ["GET /containers/a/json", "POST /containers/a/resize?h=1&w=1", "POST /containers/a/wait"]),
        ("logs", ["GET /containers/a/json"]),
        ("stats", ["GET /containers/json", "GET /events"]),
        ("build", ["GET /info"]),
    ],
)
def test_an_allow_list_lets_through_what_the_command_asks_for_on_the_way(name, requests):
    assert [request for request in requests if not passes("allow", name, request)] == []


def test_no_list_lets_everything_through():
    """Without a list the mode is deny and the names are none."""
    empty = check({}, [])
    assert [route.id for route in ROUTES if not allowed("deny", (), route.id, empty)] == []


def test_an_empty_allow_list_blocks_everything_else():
    empty = check({}, [])
    assert {route.id for route in ROUTES if allowed("allow", (), route.id, empty)} == ALWAYS


@pytest.mark.parametrize("mode", ["", "Deny", "ALLOW", "off"])
def test_an_unknown_mode_blocks(mode):
    assert not passes(mode, "ps", "GET /containers/json")


def test_an_unknown_name_blocks_in_a_deny_list_and_allows_nothing():
    assert not passes("deny", "pss", "GET /containers/json")
    assert not passes("allow", "pss", "GET /containers/json")


def test_trap_e_denying_images_blocks_the_pull_of_a_run():
    assert passes("deny", "image*", "POST /containers/create")
    assert not passes("deny", "image*", "POST /images/create?fromImage=alpine&tag=latest")


def test_trap_f_what_no_command_stands_for_passes_a_deny_list_only():
    for request in ("GET /plugins", "GET /distribution/a/json"):
        assert passes("deny", " ".join(name for name in COMMANDS), request)
        assert not passes("allow", "container* image* volume* network* build* system*", request)


@pytest.mark.parametrize("query", ["fromImage=&fromSrc=-", "fromSrc=-", ""])
def test_an_empty_image_name_is_an_import_as_for_dockerd(query):
    assert passes("deny", "pull", f"POST /images/create?{query}")
    assert not passes("deny", "import", f"POST /images/create?{query}")


def test_a_pull_that_names_a_source_too_is_a_pull_as_for_dockerd():
    assert not passes("deny", "pull", "POST /images/create?fromImage=a&fromSrc=-")
    assert passes("deny", "import", "POST /images/create?fromImage=a&fromSrc=-")


def test_the_denial_shows_path_and_query_as_they_were_sent():
    text = denial("push", "/v1.43/images/myimage/push?tag=latest")
    assert text.startswith('enhanced container isolation: docker command "/v1.43/images/myimage/push?tag=latest" is blocked; ')
    assert "admin-settings.json" in text
    assert "push" in text.rpartition(";")[2]


def test_the_blame_names_the_entry_or_what_is_missing():
    empty = check({}, [])
    assert blocked_by("deny", ["ps", "image*"], "ImagePush", empty) == "image*"
    assert blocked_by("allow", ["ps"], "ImagePush", empty) == "push or image*"
    assert blocked_by("allow", ["ps"], "PluginList", empty) == "no command"
    assert blocked_by("allow", ["ps"], "ContainerList", empty) == ""
