"""The guest's messages: it is not trusted, so whatever comes, events are cut right and nothing breaks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cofferdam.machine.events import _LONGEST_LINE, Event, EventStream, parse_event

HEARTBEAT = b'{"event":"heartbeat","uptime":1.5,"kernel":"7.3"}\n'


def feed(data: bytes, *cuts: int) -> tuple[list[Event], int]:
    stream = EventStream()
    found = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        found += stream.feed(data[start:end])
    return found, stream.garbage


def test_an_event():
    assert feed(HEARTBEAT) == ([Event("heartbeat", 1.5, {"kernel": "7.3"})], 0)


def test_every_split_gives_the_same_event():
    data = HEARTBEAT + '{"event":"failed","uptime":2,"unit":"ü.service"}\n'.encode()
    for at in range(len(data) + 1):
        events, garbage = feed(data, at)
        assert [event.kind for event in events] == ["heartbeat", "failed"]
        assert events[1].data == {"unit": "ü.service"}
        assert garbage == 0


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"3",
        b"{}",
        b'{"event":"heartbeat"',
        b'{"event":"reboot","uptime":1}',
        b'{"event":["docker"],"uptime":1}',
        b'{"event":{"a":1}}',
        b'{"event":"docker","uptime":"soon"}',
        b'{"event":"docker","uptime":true}',
        b'{"event":"docker","uptime":NaN}',
        b'{"event":"docker","uptime":1e999}',
        b'{"event":"docker","uptime":-Infinity}',
        b'{"event":"docker","uptime":1' + b"0" * 400 + b"}",
        b'{"event":"docker","uptime":1' + b"0" * 5000 + b"}",
        b"[" * 30_000,
    ],
)
def test_garbage_is_counted_and_dropped(line):
    assert parse_event(line) is None
    events, garbage = feed(line + b"\n" + HEARTBEAT)
    assert [event.kind for event in events] == ["heartbeat"]
    assert garbage == 1


def test_empty_lines_are_nothing():
    assert feed(b"\n \r\n\n") == ([], 0)


@pytest.mark.parametrize("size", [1, 4096, 65536, 10**6])
def test_a_huge_line_is_dropped_whole_and_memory_stays_small(size):
    huge = b'{"event":"docker","uptime":1,"x":"' + b"x" * (3 * _LONGEST_LINE) + b'"}\n'
    stream, found = EventStream(), []
    data = HEARTBEAT + huge + HEARTBEAT
    for at in range(0, len(data), max(size, 997)):
        found += stream.feed(data[at : at + max(size, 997)])
        assert len(stream._rest) <= _LONGEST_LINE
    assert [event.kind for event in found] == ["heartbeat", "heartbeat"]
    assert stream.garbage == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["event", "uptime", "unit", "x"]), inner, max_size=3)
    ),
)
EVENTS = st.fixed_dictionaries(
    {"event": st.sampled_from(["heartbeat", "userspace", "docker", "failed", "other"]), "uptime": st.floats()}
)
HUGE = st.integers(_LONGEST_LINE - 2, 2 * _LONGEST_LINE).map(lambda size: b"x" * size)
LINES = st.one_of(
    EVENTS.map(lambda value: json.dumps(value).encode()),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=20),
    HUGE,
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=6), st.booleans(), st.data())
def test_any_chunking_gives_the_same(lines, ended, data):
    text = b"\n".join(lines) + (b"\n" if ended else b"")
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    assert feed(text, *cuts) == feed(text)
