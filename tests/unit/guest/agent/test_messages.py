"""The agent's language: events out, notes and commands in."""

import json

import pytest

from cofferdam_guest.agent.messages import History, Lines, event, parse_command, parse_note


def test_an_event_is_one_json_line():
    line = event("failed", 3.14159, unit="docker.service", journal=["a\nb", "c"])
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert json.loads(line) == {"event": "failed", "uptime": 3.142, "unit": "docker.service", "journal": ["a\nb", "c"]}


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (b"userspace", ("userspace", "")),
        (b"docker", ("docker", "")),
        (b"failed docker.service", ("failed", "docker.service")),
        (b"failed", None),
        (b"heartbeat", None),
        (b"docker docker", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_notes_of_units(line, note):
    assert parse_note(line) == note


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b'{"command": "poweroff"}', ("poweroff", {})),
        (b'{"command": "clock", "seconds": 7.5}', ("clock", {"seconds": 7.5})),
        (b'{"command": 7}', ("", {})),
        (b'{"command": ""}', ("", {})),
        (b'["command"]', ("", {})),
        (b'"poweroff"', ("", {})),
        (b"poweroff", ("", {})),
        (b"\xff", ("", {})),
        (b"", ("", {})),
    ],
)
def test_commands_of_the_host(line, command):
    assert parse_command(line) == command


def test_lines_are_put_together_from_pieces():
    lines = Lines()
    assert lines.feed(b"do") == []
    assert lines.feed(b"cker\nuserspace\nfai") == [b"docker", b"userspace"]
    assert lines.feed(b"led x\n") == [b"failed x"]


def test_an_endless_line_is_dropped_and_the_next_one_is_read():
    lines = Lines(limit=10)
    assert lines.feed(b"x" * 11) == []
    assert lines.feed(b"x" * 11) == []
    assert lines.feed(b"tail\ndocker\n") == [b"docker"]


def test_a_host_that_comes_again_hears_everything():
    history = History()
    history.add(b"one\n")
    history.sent(2)
    assert history.pending == b"e\n"
    history.add(b"two\n")
    history.sent(6)
    assert history.pending == b""
    history.restart()
    assert history.pending == b"one\ntwo\n"
