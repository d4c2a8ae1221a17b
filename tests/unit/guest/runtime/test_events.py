"""What the user and the journal are told."""

import json
import os
import socket
import time

import pytest

from cofferdam_guest.linux import journal as protocol
from cofferdam_guest.runtime import events


def parsed(data):
    """The journal's native protocol, read as its daemon reads it."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            fields[name.decode()] = value
        else:
            size = int.from_bytes(rest[:8], "little")
            fields[name.decode()] = rest[8 : 8 + size]
            assert rest[8 + size : 9 + size] == b"\n"
            rest = rest[9 + size :]
        data = rest
    return fields


def test_the_line_for_the_shim_is_one_json_object():
    line = events.user_line('can\'t "mount"\n/ünder \\ it', 0)
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert line.isascii()
    assert json.loads(line) == {"level": "error", "msg": 'can\'t "mount"\n/ünder \\ it', "time": "1970-01-01T00:00:00Z"}


def test_the_time_is_that_of_the_call():
    assert json.loads(events.user_line("x", 1_700_000_000.9))["time"] == "2023-11-14T22:13:20Z"


def test_the_user_reads_it_in_the_log_and_on_standard_error(tmp_path, capsys):
    log = tmp_path / "log.json"
    log.write_text("earlier\n")
    before = time.time()
    events.tell_user("no", str(log))
    first, second = log.read_text().splitlines()
    assert first == "earlier"
    assert json.loads(second)["msg"] == "no"
    assert time.strptime(json.loads(second)["time"], "%Y-%m-%dT%H:%M:%SZ") >= time.gmtime(before - 1)
    assert capsys.readouterr().err == second + "\n"


def test_a_new_log_is_private(tmp_path, capsys):
    events.tell_user("no", str(tmp_path / "log"))
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_log_that_is_a_link_or_cannot_be_written_does_not_stop_the_message(tmp_path, capsys):
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for log in (str(tmp_path / "link"), str(tmp_path / "absent/log"), None, ""):
        events.tell_user("no", log)
        last = capsys.readouterr().err.splitlines()[-1]
        assert json.loads(last)["msg"] == "no"
    assert (tmp_path / "target").read_text() == ""


def test_values_of_one_and_of_several_lines():
    fields = {"MESSAGE": "one", "EMPTY": "", "LONG": "first\nSECOND=forged\n\n", "EQUALS": "a=b", "LAST": "ü"}
    assert parsed(protocol.datagram(fields)) == {key: value.encode() for key, value in fields.items()}


def test_what_is_not_unicode_is_still_sent():
    assert parsed(protocol.datagram({"A": "x\udc80y"})) == {"A": b"x?y"}


@pytest.fixture
def journal(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "socket"))
        server.settimeout(10)
        yield server, str(tmp_path / "socket")


def test_a_refusal_is_one_structured_event(journal):
    server, path = journal
    events.refused("hook", "it would\nrun outside", "box", "/bundle", socket_path=path)
    fields = parsed(server.recv(65536))
    assert fields["COFFERDAM_EVENT"] == b"refused"
    assert fields["COFFERDAM_RULE"] == b"hook"
    assert fields["COFFERDAM_CONTAINER"] == b"box"
    assert fields["COFFERDAM_REASON"] == b"it would\nrun outside"
    assert fields["SYSLOG_IDENTIFIER"] == b"cofferdam"
    assert b"box" in fields["MESSAGE"]
    assert fields["PRIORITY"].isdigit()


def test_a_reason_cannot_forge_fields(journal):
    server, path = journal
    events.refused("mount", "x\nCOFFERDAM_RULE=none\nPRIORITY=7", "box", "", socket_path=path)
    fields = parsed(server.recv(65536))
    assert (fields["COFFERDAM_RULE"], fields["PRIORITY"]) == (b"mount", b"4")


def test_a_reason_of_any_length_still_leaves_an_event(journal):
    server, path = journal
    events.refused("mount", "ü" * (1 << 22), "box", "/b", socket_path=path)
    fields = parsed(server.recv(1 << 20))
    assert fields["COFFERDAM_RULE"] == b"mount"
    assert fields["COFFERDAM_REASON"].startswith("ü".encode() * 100)


def test_without_a_journal_nobody_is_stopped(tmp_path):
    events.refused("hook", "x", "box", "/b", socket_path=str(tmp_path / "absent"))
    events.refused("hook", "x" * (1 << 24), "box", "/b", socket_path=str(tmp_path / "absent"))


@pytest.mark.timeout(20)
def test_a_full_journal_does_not_block(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "socket"))
        for _ in range(300):
            events.refused("hook", "x" * 1000, "box", "/b", socket_path=str(tmp_path / "socket"))


def test_the_image_is_the_one_in_dockerds_record(tmp_path):
    os.makedirs(tmp_path / "containers/box")
    record = tmp_path / "containers/box/config.v2.json"
    record.write_text(json.dumps({"Config": {"Image": "alpine:3"}}))
    assert events.image_of("box", str(tmp_path)) == "alpine:3"
    for broken in ("{", "[]", '{"Config": null}', "{}"):
        record.write_text(broken)
        assert events.image_of("box", str(tmp_path)) == ""
    assert events.image_of("stranger", str(tmp_path)) == ""
