"""The messenger between a datagram socket and a port, both real descriptors."""

import json
import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cofferdam.machine.denied import parse
from cofferdam.paths import ROOT
from cofferdam_guest.agent import denied
from cofferdam_guest.agent.denied import MOST, Messenger, line
from cofferdam_guest.apiproxy.audit import Audit
from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.linux import journal
from cofferdam_guest.runtime import events


@pytest.fixture
def wires(tmp_path, monkeypatch):
    """`(messenger, the host's end of the port)`; what refuses finds the messenger's socket."""
    path = str(tmp_path / "refusals")
    monkeypatch.setattr(journal.refused, "__defaults__", (str(tmp_path / "journal"), path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as source:
        source.bind(path)
        port, host = socket.socketpair()
        with port, host:
            port.setblocking(False)
            host.settimeout(5)
            yield Messenger(source.fileno(), port.fileno(), idle=0), host


def told(host):
    return [json.loads(each) for each in host.recv(1 << 20).splitlines()]


def test_a_refusal_of_the_engine_reaches_the_host(wires):
    messenger, host = wires
    events.refused("device", "device /dev/vda\ncan't be used", "box", "/bundle")
    assert messenger.step() and messenger.step()
    (said,) = told(host)
    assert said.pop("time") > 1_700_000_000
    assert said == {
        "rule": "device",
        "reason": "device /dev/vda\ncan't be used",
        "container": "box",
        **dict.fromkeys(("request", "image", "door", "peer"), ""),
    }


def test_a_refusal_of_the_proxy_reaches_the_host_and_the_host_can_read_it(wires):
    messenger, host = wires
    Audit().refused("host", "10.0.2.2", Denied(403, "host-namespace", "no"), "POST", "/v1.44/containers/create?name=x")
    assert messenger.step() and messenger.step()
    found = parse(host.recv(1 << 16).rstrip())
    assert (found.rule, found.reason, found.door, found.peer) == ("host-namespace", "no", "host", "10.0.2.2")
    assert found.request == "POST /v1.44/containers/create"


def test_with_nothing_to_do_it_ends(wires):
    messenger, _ = wires
    assert not messenger.step()


def test_without_a_host_refusals_are_kept_up_to_a_bound_and_the_next_host_begins_with_a_whole_line(tmp_path):
    source, told_here = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    port, host = socket.socketpair()
    with source, told_here, port, host:
        port.setblocking(False)
        port.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        messenger = Messenger(source.fileno(), port.fileno(), idle=0)
        for number in range(2 * MOST):
            told_here.send(journal.datagram({"COFFERDAM_RULE": f"rule-{number}", "COFFERDAM_REASON": "x" * 1000}))
            assert messenger.step()
        assert len(messenger.waiting) <= MOST
        assert json.loads(messenger.waiting[-1])["rule"] == f"rule-{2 * MOST - 1}"
        # The first host has got a part, and goes.
        host.close()
        messenger.step()
    port, host = socket.socketpair()
    with port, host:
        messenger._port = port.fileno()
        port.setblocking(False)
        host.settimeout(5)
        first = json.loads(messenger.waiting[0])["rule"]
        source, told_here = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with source, told_here:
            messenger._source = source.fileno()
            assert messenger.step()
        assert told(host)[0]["rule"] == first


def test_a_line_is_bounded_whatever_was_said():
    values = {f"COFFERDAM_{name.upper()}": "\U0001f600" * 5000 for name in denied.FIELDS}
    made = line(journal.datagram(values), 1_764_164_123.25)
    assert made.count(b"\n") == 1 and len(made) <= 1 << 15
    assert parse(made).reason == "\U0001f600" * 1000, "nobody hides a refusal behind its length"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_datagram_is_one_line(data):
    assert json.loads(line(data, 0)).keys() == {"time", *denied.FIELDS}


@settings(deadline=None)
@given(st.dictionaries(st.text(st.sampled_from("ABC_"), min_size=1), st.text(max_size=40)))
def test_fields_are_read_as_they_were_sent(values):
    sent = {name: value.encode("utf-8", "replace").decode() for name, value in values.items()}
    assert journal.fields(journal.datagram(values)) == sent


def test_the_program_takes_descriptor_3_and_starts_light(tmp_path):
    """As systemd starts it, for a machine without ports: it reads what has come, and ends."""
    code = (
        "import os, sys; os.dup2(int(sys.argv[2]), 3); sys.path.append(sys.argv[1]); before = set(sys.modules)\n"
        "from cofferdam_guest.agent import denied\n"
        "print(*sorted(set(sys.modules) - before))\n"
        "denied._PORT_SECONDS, denied._IDLE_MILLISECONDS = 0, 0\n"
        "denied.Messenger.__init__.__defaults__ = (0,)\n"
        "denied.main()"
    )
    source, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with source, other:
        for number in range(3):
            other.send(journal.datagram({"COFFERDAM_RULE": f"{number}"}))
        words = [sys.executable, "-IS", "-c", code, str(ROOT / "vm/guest/src"), str(source.fileno())]
        done = subprocess.run(words, pass_fds=[source.fileno()], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        source.setblocking(False)
        with pytest.raises(BlockingIOError):
            os.read(source.fileno(), 1)
    assert not {"subprocess", "socket", "logging", "asyncio", "typing"} & set(done.stdout.split())
