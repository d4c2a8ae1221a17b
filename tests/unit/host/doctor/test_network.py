"""The doctor on the ways in and out: ports, docker contexts, the resolver and proxy variables."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cofferdam.doctor import network
from cofferdam.machine import context, current
from cofferdam.machine.instance import Instance


def test_ports_of_stopped_instances_that_others_have_taken(machine):
    instance = Instance("work")
    instance.create()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        instance.write_ports({"docker": port})
        check = machine.check("ports")
        assert (check.status, f"{port} of instance work" in check.found) == ("warn", True)
        assert "another port" in check.fix
        # A running instance has its own ports.
        assert instance.life.acquire()
        assert machine.check("ports").status == "ok"
        instance.life.release()
    assert machine.check("ports").status == "ok"


def test_no_port_at_all_cannot_be_worked_with(machine, monkeypatch):
    monkeypatch.setattr("cofferdam.machine.channels._bind", lambda _: 0)
    check = machine.check("ports")
    assert (check.status, "no free TCP port" in check.found, bool(check.fix)) == ("fail", True, True)


@pytest.mark.parametrize("name", ["DOCKER_HOST", "DOCKER_CONTEXT"])
def test_variables_that_win_over_docker_s_context(machine, monkeypatch, name):
    monkeypatch.setenv(name, "tcp://secret")
    check = machine.check("docker-context")
    assert (check.status, check.fix) == ("warn", f"unset {name}")
    assert name in check.found
    assert "secret" not in check.found


def test_docker_contexts_of_others_and_our_own(machine):
    ours = context.instance_context("default", Instance("default").directory)
    context.create(ours, "tcp://127.0.0.1:1", credentials(machine))
    assert machine.check("docker-context").status == "ok"
    meta = ours.meta / "meta.json"
    meta.write_text(meta.read_text().replace("Cofferdam instance", "Somebody's"))
    check = machine.check("docker-context")
    assert (check.status, check.fix) == ("warn", "docker context rm cofferdam")


def credentials(machine) -> Path:
    """Files to make a context with; there is no docker program that would look into them."""
    machine.lacks("docker")
    directory = machine.base / "client"
    directory.mkdir()
    for name in context.CLIENT_FILES:
        (directory / name).touch()
    return directory


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "names no IPv4 name server"),
        ("nameserver\nnameserver fd00::1\nnameserver nobody\n", "names no IPv4 name server"),
        ("nameserver 127.0.0.1\nnameserver 127.0.0.9\n", "no answer from 127.0.0.9"),
    ],
)
def test_a_resolver_that_the_guest_cannot_use(machine, monkeypatch, text, found):
    monkeypatch.setattr(network, "PATIENCE", 0.2)
    (machine.base / "resolv.conf").write_text(text)
    check = machine.check("dns")
    assert (check.status, found in check.found) == ("warn", True)
    assert str(machine.base / "resolv.conf") in check.fix


def test_no_resolver_at_all(machine):
    assert "127.0.0.1 answers" in machine.check("dns").found
    (machine.base / "resolv.conf").unlink()
    assert machine.check("dns").status == "warn"


@pytest.mark.parametrize(
    ("variables", "status", "text"),
    [
        ({}, "ok", "no proxy variables"),
        ({"https_proxy": "http://me:secret@proxy:3128", "no_proxy": "localhost,127.0.0.1"}, "ok", "https_proxy set"),
        ({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "*"}, "ok", "https_proxy set"),
        ({"http_proxy": "http://me:secret@proxy:3128"}, "warn", "127.0.0.1 is not in no_proxy"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "example.org"}, "warn", "127.0.0.1 is not in no_proxy"),
        ({"all_proxy": "secret", "no_proxy": "*"}, "warn", "no address of a proxy: all_proxy"),
        ({"http_proxy": "http://secret:port", "no_proxy": "*"}, "warn", "no address of a proxy: http_proxy"),
    ],
)
def test_proxy_variables_are_judged_and_their_values_not_told(machine, monkeypatch, variables, status, text):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check = machine.check("proxy")
    assert (check.status, text in check.found) == (status, True)
    assert "secret" not in check.found + check.fix
    assert bool(check.fix) is (status != "ok")


def test_a_current_context_that_leads_nowhere(machine):
    config = context.docker_config()
    current.make_current(config, "gone")
    check = machine.check("docker-context")
    assert (check.status, check.found) == ("warn", "docker's current context gone does not exist")
    assert check.fix == "docker context use default"
    instance = Instance("work")
    instance.create()
    context.create(context.instance_context("work", instance.directory), "tcp://127.0.0.1:1", credentials(machine))
    current.make_current(config, "cofferdam-work")
    check = machine.check("docker-context")
    assert (check.status, "cofferdam-work leads to an instance that does not run" in check.found) == ("warn", True)
    assert "inv status" in check.fix
    assert instance.life.acquire()
    assert machine.check("docker-context").status == "ok"
    instance.life.release()
    # Of a state home that is not there any more.
    elsewhere = context.instance_context("old", machine.base / "elsewhere/instances/old")
    context.create(elsewhere, "tcp://127.0.0.1:1", machine.base / "client")
    current.make_current(config, "cofferdam-old")
    assert machine.check("docker-context").status == "warn"


def test_a_configuration_of_docker_that_is_not_json(machine):
    file = context.docker_config() / "config.json"
    file.parent.mkdir()
    file.write_text("{")
    check = machine.check("docker-context")
    assert (check.status, "is not JSON" in check.found, str(file) in check.fix) == ("warn", True, True)
