"""Query parameters of a route: known, once, of their kind."""

from __future__ import annotations

import pytest

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.query import check
from cofferdam_guest.apiproxy.routes import match


def build(*pairs):
    return check(match("POST", "/build").route.query, list(pairs))


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([("networkmode", "default"), ("networkmode", "host")], '"networkmode" twice'),
        ([("q", "on")], "write 1 or 0"),
        ([("q", "f")], "write 1 or 0"),
        ([("q", " 0")], "write 1 or 0"),
        ([("memory", "1e9")], "whole number"),
        ([("memory", "+1")], "whole number"),
        ([("memory", "\u0661")], "whole number"),
        ([("buildargs", '{"a":1}')], '(query parameter "buildargs")'),
        ([("buildargs", '{"a":"1","a":"2"}')], "twice"),
        ([("buildargs", "x")], "not JSON"),
        ([("cachefrom", "{}")], "not a list"),
        ([("ulimits", '[{"name":"x"}]')], 'spelled "Name"'),
        ([("outputs", '[{"Type":"local","Attrs":{"dest":1}}]')], "Attrs"),
    ],
)
def test_what_dockerd_could_read_otherwise_is_refused(pairs, why):
    with pytest.raises(Denied) as caught:
        build(*pairs)
    assert caught.value.status == 400
    assert why in caught.value.message


def test_what_dockerd_does_not_read_does_not_reach_it():
    """dockerode's whole body, other spellings, the same twice."""
    pairs = (
        ("NetworkMode", "host"),
        ("privileged", "1"),
        ("", "1"),
        ("Image", "x"),
        ("Image", "y"),
        ("HostConfig[Binds][0]", "/:/x"),
    )
    query = build(*pairs, ("q", "1"))
    assert query.pairs == [("q", "1")]
    assert query.values == {"q": "1"}


def test_repeatable_parameters_repeat():
    query = build(("t", "a"), ("t", "b"), ("extrahosts", "a:1"))
    assert query.all("t") == ["a", "b"]
    assert query.pairs == [("t", "a"), ("t", "b"), ("extrahosts", "a:1")]
    assert query.all("securityopt") == []


@pytest.mark.parametrize("key", ["ulimits", "outputs", "buildargs", "labels"])
def test_null_is_absent_whatever_dockerd_would_read_there(key):
    """docker 20.10 says null for an empty list; an empty object in its place is what dockerd cannot read."""
    assert build((key, " null ")).pairs == [(key, "")]


def test_json_is_read_and_written_anew():
    query = build(("buildargs", ' {"A": null, "B": "x"} '), ("labels", ""), ("ulimits", '[{"Name":"nofile","Soft":1,"Hard":2}]'))
    assert query.values["buildargs"] == {"A": None, "B": "x"}
    assert query.pairs[0] == ("buildargs", '{"A":null,"B":"x"}')
    assert query.pairs[1] == ("labels", "")


@pytest.mark.parametrize(
    ("text", "truth"), [("1", True), ("True", True), ("yes", True), ("0", False), ("False", False), ("None", False), ("", False)]
)
def test_flags_are_read_as_dockerd_reads_them(text, truth):
    assert build(("q", text)).flag("q", default=not truth) is truth


def test_absent_parameters_have_defaults():
    assert build().text("networkmode") == ""
    assert build().flag("pull") is False
    assert build().flag("rm", default=True) is True


@pytest.mark.parametrize("text", ['{"label":["a=b"]}', '{"label":{"a=b":true}}', '{"a":["1"],"b":{"c":false}}', "{}", "", "null"])
def test_both_forms_of_filters_are_read(text):
    assert check({"filters": "filters"}, [("filters", text)])


@pytest.mark.parametrize("text", ['{"label":"a"}', '{"label":[1]}', '{"label":["a"],"label":["b"]}', '["a"]'])
def test_other_filters_are_refused(text):
    with pytest.raises(Denied):
        check({"filters": "filters"}, [("filters", text)])
