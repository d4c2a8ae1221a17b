"""What the page shows of a real instance: its files and locks are real, dockerd's part answers over mutual TLS."""

from __future__ import annotations

import http.client
import threading
import webbrowser
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import tasks
from invoke import Context, Exit

from cofferdam.errors import HostError, UsageError
from cofferdam.machine.credentials import ensure_credentials
from cofferdam.machine.denied import Denied, Log
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.instance import Instance, PolicyFacts
from cofferdam.page.engine import MOST, engine
from cofferdam.page.model import Container, Engine, IdRange
from cofferdam.page.source import InstanceSource, facts, made_policy, policy_in_force
from servers.containers import DockerServer

PATIENCE = 60.0
SECURITY = ["name=seccomp,profile=builtin", "name=cgroupns", "name=cofferdam,isolation=kernel,policy=sha256:{}"]


def row(name: str, state: str = "running", status: str = "Up 3 minutes", **more: Any) -> dict[str, Any]:
    """One row of `GET /containers/json?all=1`, as dockerd 26.1 gives it."""
    values = {
        "Id": f"id-of-{name}",
        "Names": [f"/{name}"],
        "Image": "alpine:3",
        "ImageID": "sha256:05455a08881e",
        "Command": "sleep 9",
    }
    return {**values, "Created": 1764164123, "Ports": [], "Labels": {}, "State": state, "Status": status, "Mounts": [], **more}


def inspected(name: str, first: int) -> dict[str, Any]:
    """The answer to an inspect, as the API proxy gives it."""
    shown = {"Id": f"id-of-{name}", "State": {"Status": "running"}, "HostConfig": {"UsernsMode": ""}}
    return {**shown, "Cofferdam": {"IdRange": {"First": first, "Size": 65536}}}


class Docker(DockerServer):
    """A Docker API that tells of containers, one by one as well, and of its policy."""

    sha256 = "cd" * 32

    def document(self, path: str) -> Any:
        if path.endswith("/info"):
            return {"SecurityOptions": [each.format(self.sha256) for each in SECURITY], "Warnings": None}
        if path.partition("?")[0].endswith("/containers/json"):
            return self.containers
        number = next(at for at, each in enumerate(self.containers) if each["Id"] in path)
        return inspected(self.containers[number]["Names"][0][1:], 100000 + 65536 * number)


@pytest.fixture
def docker(instance: Instance) -> Iterator[Docker]:
    credentials = ensure_credentials(instance.credentials, instance.name)
    made = Docker(0, credentials.smbios[0].parent)
    yield made
    made.close()


@pytest.fixture
def running(instance, record, docker, hold):
    """A running instance, and the process that is its machine."""
    holder = hold(instance.life.path)
    record.ready, record.docker_port, record.kernel = True, docker.server_address[1], "7.3.4-cofferdam"
    record.policy = PolicyFacts(file=None, sha256=made_policy(record).sha256)
    docker.sha256 = record.policy.sha256
    instance.write_record(record)
    return holder


def test_a_running_instance(instance, running, docker):
    docker.run(row("web"), row("db"), row("old", "exited", "Exited (137) 2 hours ago"))
    source = InstanceSource(instance)
    assert wait_until(lambda: len(source.view().engine.containers) == 3 and bool(source.view().facts), PATIENCE)
    view = source.view()
    assert view.engine.containers == (
        Container("web", "alpine:3", "running", IdRange(100000, 65536)),
        Container("db", "alpine:3", "running", IdRange(165536, 65536)),
        Container("old", "alpine:3", "exited (137)"),
    )
    assert (view.alive, view.engine.problem, view.denied) == (True, "", ())
    assert {"State": "running", "Kernel": "7.3.4-cofferdam", "Memory": "2048 MiB"}.items() <= dict(view.facts).items()
    assert len(view.policy.sha256) == 64 and dict(view.policy.values)["command_mode"] == '"deny"'
    docker.run(row("web"))
    assert wait_until(lambda: len(source.view().engine.containers) == 1, PATIENCE)
    Log(instance.denied).add(Denied(time=1764164123, rule="device", reason="no"))
    assert [each.rule for each in source.view().denied] == ["device"]
    Log(instance.denied).add(Denied(time=1764164124, rule="mount", reason="no"))
    assert [each.rule for each in source.view().denied] == ["mount", "device"], "newest first"
    running.kill()
    assert wait_until(lambda: not source.view().alive, PATIENCE)


def test_when_docker_goes_what_it_said_last_stays(instance, running, docker):
    docker.run(row("web"))
    source = InstanceSource(instance)
    assert wait_until(lambda: len(source.view().engine.containers) == 1, PATIENCE)
    assert wait_until(lambda: any("/events" in path for path in docker.requests), PATIENCE)
    docker.document = lambda _: {"message": "no list"}
    docker.run()
    assert wait_until(lambda: "Docker does not answer" in source.view().engine.problem, PATIENCE)
    assert [each.name for each in source.view().engine.containers] == ["web"]


def test_another_policy_than_that_of_the_files_has_no_values(record):
    made = made_policy(record)
    assert len(made.sha256) == 64 and made.values
    told = policy_in_force(made, record, Engine(policy="ab" * 32))
    assert (told.sha256, told.values) == ("ab" * 32, ()) and "have changed since the boot" in told.notes[0]
    refusing = policy_in_force(made, record, Engine(policy=made.sha256, refuses_all="WARNING: everything is refused: x"))
    assert refusing.notes[0].startswith("WARNING: everything is refused") and refusing.values == made.values
    record.profile = "no-such-profile"
    assert "no-such-profile" in made_policy(record).notes[0]


@pytest.mark.parametrize(
    "odd",
    [
        {"Cofferdam": {"IdRange": {"First": 0, "Size": 65536}}},
        {"Cofferdam": {"IdRange": {"First": 100000, "Size": 1 << 33}}},
        {"Cofferdam": {"IdRange": []}},
        {"Cofferdam": None},
        {},
        [],
        None,
    ],
)
def test_a_container_without_a_range_that_can_be_read(odd):
    from cofferdam.page.engine import _LIST

    rows = _LIST.validate_python([row("web")])
    assert engine({}, rows, {"id-of-web": odd}).containers == (Container("web", "alpine:3", "running"),)


def test_words_of_the_machine_are_short_lines():
    from cofferdam.page.engine import _LIST

    rows = [row("x", Names=["/other/alias", "/own\x1b[2J\n"], Image="i" * 5000), row("y", Names=None)]
    named, nameless = engine({"Warnings": None}, _LIST.validate_python(rows), {}).containers
    assert (named.name, len(named.image), nameless.name) == ("own", 300, "id-of-y")
    many = _LIST.validate_python([row(str(number)) for number in range(MOST + 1)])
    shown = engine({}, many, {})
    assert len(shown.containers) == MOST and f"{MOST + 1} containers" in shown.problem


def test_facts_name_ports_and_notes():
    ports = [{"host_port": 8080, "proto": "tcp", "container": "web", "state": "open"}]
    told = facts(
        {"name": "box", "state": "running", "data_disk": {"used": 3 << 30, "bytes": 20 << 30}, "ports": ports, "note": "a\nb"}
    )
    assert dict(told)["Published ports"] == "8080/tcp (web)"
    assert [value for name, value in told if name == "Note"] == ["a", "b"]


def test_the_verb_serves_until_the_instance_ends(instance, running, docker, monkeypatch, capsys):
    docker.run(row("web"))
    links: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda link: not links.append(link))
    verb = threading.Thread(target=tasks.page, args=(Context(),), kwargs={"name": "box", "open": True})
    verb.start()
    assert wait_until(lambda: bool(links), PATIENCE)
    link = urlsplit(links[0])
    connection = http.client.HTTPConnection("127.0.0.1", link.port, timeout=PATIENCE)
    connection.request("GET", f"{link.path}?{link.query}")
    entered = connection.getresponse()
    entered.read()

    def body() -> str:
        connection.request("GET", link.path, headers={"Cookie": entered.getheader("set-cookie").partition(";")[0]})
        return connection.getresponse().read().decode()

    assert wait_until(lambda: "100000" in body(), PATIENCE)
    connection.close()
    running.kill()
    verb.join(PATIENCE)
    assert not verb.is_alive()
    shown = capsys.readouterr().out
    assert shown.count(links[0]) == 1 and "instance `box` has ended, and the page with it" in shown


def test_what_the_verb_refuses(instance, monkeypatch):
    with pytest.raises(Exit) as caught:
        tasks.page(Context(), name="box")
    assert "instance `box` is not running" in str(caught.value) and "inv boot --name box" in str(caught.value)
    for port in ("0", "65536", "http", "-1", "٣"):
        with pytest.raises(Exit, match="not a port") as caught:
            tasks.page(Context(), name="box", port=port)
        assert caught.value.code == UsageError.exit_code
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    monkeypatch.delitem(__import__("sys").modules, "cofferdam.page.serve")
    with pytest.raises(Exit, match="needs the Python package uvicorn") as caught:
        tasks.page(Context(), name="box")
    assert caught.value.code == HostError.exit_code
