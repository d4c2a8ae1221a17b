import pytest

from cofferdam_guest.apiproxy.judge import verdict
from cofferdam_guest.apiproxy.routes import ROUTES
from cofferdam_guest.config.policy import deny_all


def test_every_route_that_is_served_has_a_rule_and_no_other_has():
    assert set(verdict.RULES) == {route.id for route in ROUTES if route.allowed}


def test_a_route_without_a_rule_is_refused(ask):
    error = ask.refused("SwarmInit")
    assert (error.status, error.rule) == (403, "no-rule")


@pytest.mark.parametrize("route", sorted(verdict.RULES))
def test_without_a_policy_nothing_is_possible_and_the_reason_is_told(ask, route):
    ask.policy = deny_all("admin-settings.json: line 1: not JSON")
    if route in verdict.ALWAYS:
        ask(route)
    else:
        error = ask.refused(route)
        assert error.rule == "no-policy"
        assert "line 1: not JSON" in error.message


def test_a_further_process_is_left_to_the_wrapper(ask):
    body = {"Cmd": ["true"], "Privileged": True, "User": "0", "Env": ["LD_PRELOAD=/x"]}
    assert ask("ExecCreate", body).body == body
