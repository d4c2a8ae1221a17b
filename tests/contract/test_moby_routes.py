"""The route table of the API proxy against the routes of the dockerd that the VM holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from cofferdam_guest.apiproxy import commands
from cofferdam_guest.apiproxy.routetable import ROUTES
from cofferdam_guest.apiproxy.schema.registry import SCHEMAS
from cofferdam_guest.config.commandnames import CLIENT_ONLY, GROUPS, NAMES

LIST = Path(__file__).parent / "moby-routes-26.1.5.txt"

# Routes that no command of the list stands for: only a deny list lets them through.
OUTSIDE_OF_LISTS = {"Options", "PluginList", "NetworkListSlash"}


def of_dockerd() -> list[tuple[str, str]]:
    lines = [line.split(" ") for line in LIST.read_text().splitlines() if not line.startswith("#")]
    return [(method.replace("ANY", "*"), template) for method, template in lines]


def test_the_list_is_that_of_a_whole_dockerd():
    assert len(of_dockerd()) == 121


def test_the_table_is_dockerds_in_dockerds_order():
    assert [(route.method, route.template) for route in ROUTES] == of_dockerd()


def test_every_route_is_allowed_or_refused_with_a_reason():
    assert [route.id for route in ROUTES if route.allowed == bool(route.reason)] == []


def test_ids_are_unique():
    assert len({route.id for route in ROUTES}) == len(ROUTES)


def test_every_schema_of_the_table_exists_and_every_schema_is_used():
    named = {route.schema for route in ROUTES if route.schema}
    named |= {kind.removeprefix("json:") for route in ROUTES for kind in route.query.values() if kind.startswith("json:")}
    assert named | {"Filters", "Nothing"} == set(SCHEMAS)


def test_kinds_of_parameters_are_known():
    kinds = {kind.partition(":")[0] for route in ROUTES for kind in route.query.values()}
    assert kinds == {"str", "bool", "int", "json", "filters", "list"}


def test_the_command_map_holds_every_name_a_list_may_hold():
    assert set(commands.COMMANDS) == {*NAMES, *GROUPS, *CLIENT_ONLY}


def test_the_command_map_names_only_routes_of_the_table():
    ids = {route.id for route in ROUTES} - {"ImageCreate"} | {"ImagePull", "ImageImport"}
    used = {one for command in commands.COMMANDS.values() for one in (*command.own, *command.needs)}
    assert used - ids == set()


def test_every_route_is_some_commands_own():
    own = {one for command in commands.COMMANDS.values() for one in command.own} | commands.ALWAYS
    missing = {route.id for route in ROUTES} - own - OUTSIDE_OF_LISTS - {"ImageCreate", "DistributionInspect"}
    assert {one for one in missing if not one.startswith(("Debug", "Plugin"))} == set()


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.method in ("GET", "HEAD", "DELETE")], ids=lambda route: route.id
)
def test_routes_that_only_ask_or_delete_have_no_body(route):
    assert route.body == "none"
