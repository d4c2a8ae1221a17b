"""What goes wrong in the middle: defects of the proxy, streams without an end, no descriptors. There is an answer, and nothing passes."""

import json
import os
import resource
import threading
import time
from contextlib import suppress

import pytest

from cofferdam_guest.apiproxy import connection
from cofferdam_guest.config.policy import Policy
from proxytest.requests import post, request, status
from proxytest.stage import Facts, ok, staged

PING = "GET /_ping"
EVIL = json.dumps({"Image": "x", "HostConfig": {"PidMode": "host"}}).encode()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def stage(tmp_path):
    with staged(tmp_path, Policy()) as made:
        yield made


class Defective(Facts):
    """Look-ups that fail in a way nobody has foreseen."""

    async def volume(self, name):
        raise LookupError(name)


def test_a_defect_of_the_proxy_is_an_answer_and_nothing_passes(tmp_path, capfd):
    with staged(tmp_path, Policy(), facts=Defective()) as stage:
        body = json.dumps({"Image": "x", "HostConfig": {"Binds": ["data:/data"]}}).encode()
        answers = stage.send(post("/containers/create", body) + request(PING))
        assert answers.startswith(b"HTTP/1.1 500 ")
        assert b"LookupError" in answers and b"has not passed it on" in answers
        assert answers.count(b"HTTP/1.1 200") == 1, "the connection goes on"
        assert stage.engine.requests == ["GET /_ping HTTP/1.1"]
    assert "LookupError" in capfd.readouterr().err


def test_a_defect_while_answering_is_an_answer(stage, capfd):
    stage.engine.answer = lambda method, target, body: ok({"SecurityOptions": 5})
    answer = stage.send(request("GET /info") + request(PING))
    assert answer.startswith(b"HTTP/1.1 500 ")
    message = json.loads(answer.partition(b"\r\n\r\n")[2])["message"]
    assert "(TypeError), so see whether it was done; please report it with the lines of inv logs" in message
    assert answer.count(b"HTTP/1.1 ") == 1, "the connection ends"
    assert stage.engine.requests == ["GET /info HTTP/1.1"]
    assert "TypeError" in capfd.readouterr().err


def test_a_defect_while_passing_on_is_an_answer_and_nothing_more_passes(stage, monkeypatch, capfd):
    def broken(pieces):
        raise LookupError

    monkeypatch.setattr(connection, "chunk", broken)
    answer = stage.send(request("POST /build", "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n") + request(PING))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"LookupError" in answer
    (seen,) = stage.engine.seen
    assert bytes(seen).endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert "LookupError" in capfd.readouterr().err


def test_a_defect_before_there_is_a_request_is_an_answer(stage, monkeypatch, capfd):
    def broken(reader):
        raise LookupError

    monkeypatch.setattr(connection.RequestReader, "head", broken)
    assert stage.send(request(PING)).startswith(b"HTTP/1.1 500 ")
    assert stage.engine.seen == []
    assert "LookupError" in capfd.readouterr().err


def test_a_defect_after_the_answers_head_ends_the_connection(stage, monkeypatch, capfd):
    """A second answer would be taken for a part of the first."""

    async def broken(*_, **__):
        raise LookupError

    monkeypatch.setattr(connection.Connection, "_relay_to_end", broken)
    stage.engine.answer = lambda method, target, body: CHUNKED
    answer = stage.send(request("GET /containers/json") + request(PING))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n") and answer.count(b"HTTP/1.1") == 1
    assert "LookupError" in capfd.readouterr().err


STREAMS = {
    "no size": b"zz\r\nhello\r\n0\r\n\r\n",
    "no end of a chunk": b"5\r\nhello0\r\n\r\n",
    "trailers": b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "cut off": b"5\r\nhel",
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_badly_framed_is_refused_and_has_no_end(stage, name):
    answer = stage.send(request("POST /build", "Transfer-Encoding: chunked", body=STREAMS[name]) + request(PING))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"malformed request: " in answer
    assert answer.count(b"HTTP/1.1") == 1
    (seen,) = stage.engine.seen
    assert not seen.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("size", [1, 1000, 300_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_behind_a_stream_is_judged(stage, size, chunked):
    """Whether the stream came by way of the reader or past it."""
    data = os.urandom(size)
    if chunked:
        pieces = [data[at : at + 32768] for at in range(0, size, 32768)]
        body = b"".join(b"%x;a=b\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        head = request("POST /build", "Transfer-Encoding: chunked")
    else:
        head, body = request("POST /build", f"Content-Length: {size}"), data
    with stage.connect(60) as client:
        sending = threading.Thread(target=client.sendall, args=(head + body + post("/containers/create", EVIL),))
        sending.start()
        answer = client.recv(1 << 16)
        while b"can't share namespaces" not in answer and (more := client.recv(1 << 16)):
            answer += more
        sending.join()
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 403]
    (seen,) = stage.engine.seen
    assert bytes(seen).endswith(data) and b"a=b" not in seen.partition(b"\r\n\r\n")[0]


def test_a_stream_that_is_cut_off_has_no_end(stage):
    """Past the reader, too."""
    stage.engine.answer = lambda method, target, body: ok()
    answer = stage.send(request("POST /build", "Content-Length: 3000000", body=bytes(1_000_000)))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"the connection ended inside a body" in answer


def sockets():
    """All sockets of this process, in which the proxy, its client and the engine are."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add((entry, os.readlink(f"/proc/self/fd/{entry}")))
    return {each for each in found if each[1].startswith("socket:")}


def settle():
    """Wait until none has come or gone for a while: one that closes late would be a descriptor for the next."""
    seen, since = set(), time.monotonic()
    while time.monotonic() < since + 0.5:
        if (now := sockets()) != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.02)


def test_no_descriptor_for_the_engine_is_an_answer(stage):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with stage.connect() as client:
        client.sendall(request(PING))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        settle()
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            client.sendall(request(PING))
            answer = client.recv(1000)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert status(answer) == 503
        assert b"the API proxy has too many connections (Too many open files); close some, or try again in a moment" in answer
        client.sendall(request(PING))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_an_engine_that_hangs_up_is_said_so(stage):
    stage.engine.answer = lambda method, target, body: b""
    answer = stage.send(request(PING))
    assert status(answer) == 502
    assert b"the Docker engine ended while it answered" in answer
