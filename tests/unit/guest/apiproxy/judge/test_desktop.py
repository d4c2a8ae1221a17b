"""Names of the desktop, and published ports on it."""

from __future__ import annotations

import pytest

from cofferdam_guest.apiproxy.judge.desktop import explicit

HOST, GATEWAY = "host.docker.internal:10.0.2.2", "gateway.docker.internal:10.0.2.2"


@pytest.mark.parametrize("mode", [None, "", "default", "bridge", "mine"])
def test_a_container_knows_the_desktop_by_name(ask, mode):
    assert ask.create({"NetworkMode": mode})["ExtraHosts"] == [HOST, GATEWAY]
    assert ask.create({"NetworkMode": mode, "ExtraHosts": ["a:1.2.3.4"]})["ExtraHosts"] == ["a:1.2.3.4", HOST, GATEWAY]


@pytest.mark.parametrize(
    "given", ["host.docker.internal:1.2.3.4", "host.docker.internal=::1", "HOST.docker.internal:host-gateway"]
)
def test_a_name_of_the_user_stays(ask, given):
    assert ask.create({"ExtraHosts": [given]})["ExtraHosts"] == [given, GATEWAY]


@pytest.mark.parametrize("mode", ["none", "container:other"])
def test_without_a_network_of_its_own_there_are_no_names(ask, mode):
    assert "ExtraHosts" not in ask.create({"NetworkMode": mode})


@pytest.mark.parametrize(
    ("asked", "got"), [("127.0.0.1", "0.0.0.0"), ("192.168.1.5", "0.0.0.0"), ("", ""), ("::1", "::1"), ("nonsense", "nonsense")]
)
def test_an_address_of_the_desktop_is_every_address_of_the_vm(ask, asked, got):
    made = ask.create({"PortBindings": {"80/tcp": [{"HostIp": asked, "HostPort": "8080"}], "81/tcp": None}})
    assert made["PortBindings"] == {"80/tcp": [{"HostIp": got, "HostPort": "8080"}], "81/tcp": None}


def place(port: str, address: str = "") -> dict[str, str]:
    return {"HostIp": address, "HostPort": port}


@pytest.mark.parametrize(
    ("bindings", "ports"),
    [
        ({}, []),
        ({"80/tcp": None, "81/tcp": []}, []),
        ({"80/tcp": [place("8080"), place("8080", "127.0.0.1"), place("8081")]}, [("tcp", 8080), ("tcp", 8081)]),
        ({"53/udp": [place("53")], "80": [place("80")]}, [("udp", 53), ("tcp", 80)]),
        ({"80/sctp": [place("80")]}, []),
        ({"80/tcp": [place("8080", "::1")]}, []),
        ({"80/tcp": [place(""), place("0"), place("8000-8010"), place("99999")]}, []),
    ],
)
def test_only_ports_that_dockerd_will_use_for_sure_are_asked_for(bindings, ports):
    assert explicit(bindings) == ports


def existing(**host) -> dict[str, object]:
    bindings = {"80/tcp": [place("8080")], "53/udp": [place("53")]}
    return {
        "Id": "0123",
        "Name": "/box",
        "Image": "sha256:1",
        "HostConfig": {"PortBindings": bindings, "NetworkMode": "bridge", **host},
        "Mounts": [],
    }


@pytest.mark.parametrize("route", ["ContainerStart", "ContainerRestart"])
def test_a_start_asks_for_the_ports_by_the_containers_id(ask, route):
    ask.facts.containers["box"] = existing()
    ask(route)
    assert ask.facts.asked == [("0123", [("tcp", 8080), ("udp", 53)])]


def test_a_port_that_the_desktop_cannot_have_is_dockers_own_kind_of_error(ask):
    ask.facts.containers["box"] = existing()
    ask.facts.refusal = "Bind for 127.0.0.1:8080 failed: port 8080/tcp of the desktop is in use by another program"
    error = ask.refused("ContainerStart")
    assert (error.status, error.rule) == (500, "desktop-port")
    assert error.message == (
        "driver failed programming external connectivity on endpoint box: "
        "Bind for 127.0.0.1:8080 failed: port 8080/tcp of the desktop is in use by another program"
    )


@pytest.mark.parametrize("route", ["ContainerArchiveInfo", "ContainerArchiveGet", "ContainerArchivePut"])
def test_copying_files_asks_for_no_port(ask, route):
    ask.facts.containers["box"] = existing()
    ask.facts.refusal = "no"
    ask(route)
    assert ask.facts.asked == []


@pytest.mark.parametrize(
    "host", [{"PortBindings": None}, {"PortBindings": {}}, {"NetworkMode": "none"}, {"NetworkMode": "container:x"}]
)
def test_nothing_to_publish_nothing_to_ask(ask, host):
    ask.facts.containers["box"] = existing(**host)
    ask("ContainerStart")
    assert ask.facts.asked == []


def test_a_container_that_is_refused_reserves_nothing(ask):
    ask.facts.containers["box"] = existing(PidMode="host")
    ask.refused("ContainerStart")
    assert ask.facts.asked == []


@pytest.mark.parametrize(
    ("route", "auto_remove", "status", "discarded"),
    [
        ("ContainerStart", True, "created", ["0123"]),
        ("ContainerStart", False, "created", []),
        ("ContainerStart", True, "running", []),
        ("ContainerRestart", True, "created", []),
    ],
)
@pytest.mark.parametrize("why", ["port", "policy"])
def test_a_container_that_was_to_go_at_its_end_goes_when_it_may_not_start(ask, route, auto_remove, status, discarded, why):
    """`docker run --rm` waits for the container's removal, which dockerd does itself when a start fails there."""
    more = {"PidMode": "host"} if why == "policy" else {}
    ask.facts.containers["box"] = existing(AutoRemove=auto_remove, **more) | {"State": {"Status": status}}
    ask.facts.refusal = "no"
    ask.refused(route)
    assert ask.facts.discarded == discarded
