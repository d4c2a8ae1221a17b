"""The framing of streams beside h11's: whatever is taken, h11 reads the same payload and the same end."""

from collections import Counter

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.http.framing import END, Chunked, chunk
from cofferdam_guest.apiproxy.http.requests import RequestReader

HEAD = b"POST /build HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
LINES = [b"%x\r\n", b"%X\r\n", b"000%x\r\n", b"%x;a=b\r\n", b'%x;a="\xe9 b"\r\n', b"%x \r\n", b"%x;\ta\r\n"]
SPOILT = [
    *(b"%x\n", b"%x\t;a\r\n", b"\r\n%x\r\n", b" %x\r\n", b"0x%x\r\n", b"+%x\r\n", b"-%x\r\n", b"%xg\r\n", b"%x;\0\r\n", b"%x;\n\r\n"),
    *(b"%x\r\r\n", b"%x00000000000000000000\r\n", b"%x;" + b"a" * 9000 + b"\r\n", b"%x_0\r\n", b"\xb2%x\r\n", b"%x\r", b"%x", b"\r\n\r\n%x\r\n"),
]  # fmt: skip
ENDS = [b"0\n\n", b"0\r\nX: y\r\n\r\n", b"0\r\n\n", b"0\r\nx", b"0\r\n \r\n", b"", b"0\r\n", b"0", b"0\r\n\r", b"-0\r\n\r\n"]


def by_h11(data):
    """Payload, whether it is whole, what follows; None for what is refused."""
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(HEAD + data)
    assert isinstance(parser.next_event(), h11.Request)
    payload = b""
    try:
        while isinstance(event := parser.next_event(), h11.Data):
            payload += event.data
    except h11.RemoteProtocolError:
        return None
    if isinstance(event, h11.EndOfMessage):
        return None if list(event.headers) else (payload, True, parser.trailing_data[0])
    return payload, False, b""


def by_ours(pieces):
    """The same by ours."""
    body, payload, behind = Chunked(), b"", b""
    try:
        for piece in pieces:
            if body.done:
                behind += piece
            else:
                payload += b"".join(body.take(piece))
    except Denied:
        return None
    return payload, body.done, body.rest + behind if body.done else b""


def cut(rng, data):
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(6)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def written(rng, odd):
    """Chunks as clients write them, and a request behind them; odd ones are spoilt in one place, or cut off."""
    count = rng.randrange(1, 6)
    place = rng.randrange(count + 1) if odd else -1
    data = b""
    for index in range(count):
        payload = rng.randbytes(rng.choice([1, 2, 10, 16, 300, 70_000]))
        kind = rng.randrange(3) if index == place else -1
        data += rng.choice(SPOILT if kind > 0 else LINES) % len(payload) + payload
        data += rng.choice([b"", b"\n", b"\r", b"x\r\n", b"\r\n\r\n"]) if kind == 0 else b"\r\n"
    data += rng.choice(ENDS if place == count else [END, b"000\r\n\r\n", b"0;a\r\n\r\n"]) + NEXT
    return data[: rng.randrange(len(data))] if odd and rng.randrange(4) == 0 else data


def test_chunks_are_read_as_h11_reads_them():
    seen = Counter()

    @settings(max_examples=2000, derandomize=True, database=None, deadline=None)
    @given(st.randoms(note_method_calls=False, use_true_random=True), st.booleans())
    def holds(rng, odd):
        data = written(rng, odd)
        ours, theirs = by_ours(cut(rng, data)), by_h11(data)
        if ours is None:
            assert odd
        elif theirs is None:
            assert not ours[1], "never whole"
        else:
            # h11 takes a bare line feed as the end of it all, ours waits for more, and then refuses
            assert ours == theirs or (odd and not ours[1] and ours[0] == theirs[0])
        seen["refused" if ours is None else ours[1]] += 1

    holds()
    assert all(seen[kind] > sum(seen.values()) // 20 for kind in ("refused", True, False))


@pytest.mark.parametrize("at", range(1, 20))
def test_a_line_may_be_cut_anywhere(at):
    data = b"5;x\r\nhello\r\n0\r\n\r\n" + NEXT
    assert by_ours([data[:at], data[at:]]) == (b"hello", True, NEXT)


@pytest.mark.parametrize("data", [b"5" * 5000, b"5;" + b"a" * 5000, b"1\r\nx\r\n" + b" " * 5000, b"0\r\n" + b"a" * 5000])
def test_a_line_without_an_end_is_refused(data):
    """It would be held for ever."""
    assert by_ours([data[at : at + 100] for at in range(0, len(data), 100)]) is None


def test_what_is_written_is_one_chunk():
    data = b"".join([*chunk([memoryview(b"hel"), memoryview(b"lo")]), END])
    assert data == b"5\r\nhello\r\n0\r\n\r\n"
    assert by_h11(data) == (b"hello", True, b"")


@pytest.mark.parametrize("kind", ["length", "chunks"])
def test_a_stream_ends_where_the_next_request_begins(kind):
    fields = {"length": b"Content-Length: 5\r\n\r\nhello", "chunks": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"}
    data = b"POST /build HTTP/1.1\r\nHost: x\r\n" + fields[kind] + NEXT
    for at in range(1, len(data)):
        reader, payload, head = RequestReader(), b"", None
        for piece in (data[:at], data[at:]):
            reader.receive(piece)
            if head is None and (head := reader.head()):
                reader.stream(head)
            payload += b"".join(reader.pieces())
        assert payload == b"hello"
        assert reader.done
        assert reader.head() is not None


@pytest.mark.parametrize("fields", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_a_client_that_leaves_inside_a_stream_is_an_error(fields):
    reader = RequestReader()
    reader.receive(b"POST /build HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n")
    head = reader.head()
    assert head is not None
    reader.stream(head)
    with pytest.raises(Denied, match="ended inside a body"):
        reader.receive(b"")


def test_a_chunk_that_arrives_in_parts_is_handed_out_once():
    reader = RequestReader()
    reader.receive(HEAD)
    head = reader.head()
    assert head is not None
    reader.stream(head)
    handed = []
    for part in (b"20000\r\nhe", b"llo", bytes(0x1FFFB - 1), b"x\r", b"\n3\r\nend\r\n"):
        reader.receive(part)
        handed.append(sum(map(len, reader.pieces())))
    assert handed == [0, 0, 0x1FFFF, 1, 3], "the beginning waits for the end, and not for ever when there is much of it"


def test_a_stream_that_was_relayed_past_the_reader_is_counted():
    reader = RequestReader()
    reader.receive(b"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
    head = reader.head()
    assert head is not None
    reader.stream(head)
    assert (b"".join(reader.pieces()), reader.left) == (b"he", 3)
    with pytest.raises(Denied, match="ended inside a body"):
        reader.relayed(2)
    reader.relayed(3)
    assert reader.done
