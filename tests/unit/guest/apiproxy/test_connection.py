"""Requests through the proxy to a recording engine: what reaches it is what was judged, and nothing else."""

import asyncio
import json
import time

import pytest

from cofferdam_guest.apiproxy import connection
from cofferdam_guest.config.policy import Policy, deny_all
from proxytest.stage import ok, read_all, staged

CREATE = {"Image": "x", "HostConfig": {}}
EVIL = json.dumps({"Image": "x", "HostConfig": {"PidMode": "host"}}).encode()


@pytest.fixture
def stage(tmp_path):
    with staged(tmp_path, Policy()) as made:
        yield made


def request(line="GET /_ping", *fields, body=b""):
    head = [f"{line} HTTP/1.1", "Host: x", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def post(target, body, *fields):
    return request(f"POST {target}", "Content-Type: application/json", f"Content-Length: {len(body)}", *fields, body=body)


def status(answer):
    return int(answer.split(b" ")[1])


def body_of(answer):
    return answer.partition(b"\r\n\r\n")[2]


def test_a_request_is_written_anew(stage):
    body = b'{ "Image" : "x", "HostConfig": { "Memory": 5 } }'
    answer = stage.send(post("/v1.45/containers/create?name=a", body, "X-Evil: 1", "User-Agent: t"))
    assert status(answer) == 200
    (seen,) = stage.engine.seen
    head, _, sent = bytes(seen).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1.45/containers/create?name=a HTTP/1.1\r\nHost: docker\r\nuser-agent: t\r\n")
    assert b"evil" not in head.lower()
    assert b"content-length: %d" % len(sent) in head
    assert json.loads(sent)["HostConfig"]["Memory"] == 5
    assert json.loads(sent)["HostConfig"]["Runtime"] == "sysbox-runc"


def test_a_refused_request_never_reaches_the_engine(stage):
    answer = stage.send(post("/containers/create", EVIL))
    assert status(answer) == 403
    assert b"can't share namespaces [pid]" in answer
    assert stage.engine.seen == []
    (event,) = stage.events()
    assert b"COFFERDAM_RULE=host-namespace" in event
    assert b"COFFERDAM_DOOR=host" in event


HEADS = {
    "http-1.0": b"GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no-host": b"GET /_ping HTTP/1.1\r\n\r\n",
    "two-hosts": b"GET /_ping HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "absolute-form": b"GET http://x/containers/json HTTP/1.1\r\nHost: x\r\n\r\n",
    "lower-case-method": b"get /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "trace": b"TRACE /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare-line-feeds": b"GET /_ping HTTP/1.1\nHost: x\n\n",
    "one-bare-line-feed": b"GET /_ping HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "carriage-return-in-a-value": b"GET /_ping HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "folded-field": b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n",
    "blank-before-colon": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n{}",
    "tab-before-colon": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "length-and-chunks": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two-lengths": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "length-with-plus": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    "length-in-hex": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\n{}",
    "length-list": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\n{}",
    "other-coding": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two-codings": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "trailer": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
    "chunk-of-no-size": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "expectation": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\n{}",
    "cut-off-body": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{}",
    "compressed": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "utf-16": b'POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-16\r\nContent-Length: 13\r\n\r\n{"Image":"x"}',
    "form": b'POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 13\r\n\r\n{"Image":"x"}',
    "upgrade-of-another-route": b"GET /containers/json HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    "h2c-of-attach": b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "h2c-of-ping": b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
    "unknown-route": b"GET /containers HTTP/1.1\r\nHost: x\r\n\r\n",
    "refused-route": b"GET /debug/vars HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_one_plain_request_is_refused(stage, name):
    """The bodies are ones that the routes take: it is the head or the framing alone that is wrong."""
    answer = stage.send(HEADS[name])
    assert status(answer) in (400, 403, 404, 405, 415)
    assert stage.engine.seen == []


PLAIN = {
    "length": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "chunks": b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "json": b'POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"Image":"x"}',
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_requests_written_plainly_are_taken(stage, name):
    assert status(stage.send(PLAIN[name])) == 200
    assert len(stage.engine.seen) == 1


@pytest.mark.parametrize("at", range(1, 140, 7))
def test_a_second_request_is_judged_wherever_it_is_cut(stage, at):
    data = request() + post("/containers/create", EVIL) + request("GET /version")
    answer = stage.send(data[:at], data[at:])
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.count(b"HTTP/1.1 403") == 1
    assert [line.split(" ")[1] for line in stage.engine.requests] == ["/_ping", "/version"]


def test_bytes_behind_an_empty_body_are_a_request_of_their_own(stage):
    """CVE-2024-41110: the length says 0, and something follows."""
    answer = stage.send(request("POST /containers/x/start", "Content-Length: 0") + post("/containers/create", EVIL))
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 403]


@pytest.mark.parametrize(("size", "expected"), [((4 << 20) - 1, 200), (4 << 20, 200), ((4 << 20) + 1, 413), (40 << 20, 413)])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_judged_whole_or_not_taken(stage, size, expected, chunked):
    """CVE-2026-34040: no size at which a body goes on unjudged."""
    good = json.dumps(CREATE).encode()
    body = b" " * (size - len(good)) + good
    if chunked:
        pieces = [b"%x\r\n" % len(body[at : at + 100_000]) + body[at : at + 100_000] + b"\r\n" for at in range(0, size, 100_000)]
        head = request("POST /containers/create", "Transfer-Encoding: chunked", "Content-Type: application/json")
        data = head + b"".join(pieces) + b"0\r\n\r\n"
    else:
        data = post("/containers/create", body)
    with stage.connect() as client:
        try:
            client.sendall(data)
        except OSError:
            assert expected == 413
        assert int(client.recv(100).split(b" ")[1]) == expected
    assert len(stage.engine.seen) == (expected == 200)


def test_padding_does_not_hide_what_follows(stage):
    assert status(stage.send(post("/containers/create", b" " * (1 << 20) + EVIL))) == 403


def test_chunks_of_one_byte(stage):
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in EVIL) + b"0\r\n\r\n"
    data = request("POST /containers/create", "Content-Type: application/json", "Transfer-Encoding: chunked") + body
    assert status(stage.send(data)) == 403


def test_one_hundred_continue_is_given(stage):
    body = json.dumps(CREATE).encode()
    with stage.connect() as client:
        client.sendall(post("/containers/create", b"", "Expect: 100-continue").replace(b": 0\r\n", b": %d\r\n" % len(body)))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_stream_is_passed_on(stage):
    data = bytes(range(256)) * 8192
    head = request("POST /images/load", "Content-Type: text/evil", f"Content-Length: {len(data)}")
    assert status(stage.send(head + data)) == 200
    (seen,) = stage.engine.seen
    assert bytes(seen).endswith(data)
    assert b"evil" not in seen
    assert b"content-type: application/x-tar" in seen


def test_an_early_answer_ends_an_upload(stage):
    stage.engine.early = ok({"message": "no"}, 400)
    with stage.connect() as client:
        client.sendall(request("POST /images/load", "Content-Length: 100000000"))
        client.sendall(b"x" * 100_000)
        assert status(read_all(client)) == 400


TUNNELS = {
    "attach": (
        "POST /containers/x/attach?stream=1",
        "tcp",
        b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    ),
    "grpc": ("POST /grpc", "h2c", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "session": ("POST /session", "h2c", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "old": (
        "POST /containers/x/attach?stream=1",
        "",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n",
    ),
}


async def echo(reader, writer, raw):
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.write(b" bye")
    await writer.drain()


@pytest.mark.parametrize("name", TUNNELS)
def test_a_tunnel_with_a_half_close(stage, name):
    line, protocol, agreed = TUNNELS[name]
    stage.engine.answer = lambda method, target, body: agreed
    stage.engine.after = echo
    fields = ["Connection: Upgrade", f"Upgrade: {protocol}"] if protocol else []
    with stage.connect() as client:
        client.sendall(request(line, *fields))
        assert status(client.recv(1000)) in (101, 200)
        client.sendall(b"hello")
        assert client.recv(5) == b"HELLO"
        client.shutdown(1)
        assert read_all(client) == b" bye"


@pytest.mark.parametrize("code", [200, 400, 404, 409])
def test_no_tunnel_without_the_engines_word(stage, code):
    """What was sent in the hope of one is a request like any other."""
    stage.engine.answer = lambda method, target, body: ok({}, code)
    smuggled = post("/containers/create", EVIL)
    answer = stage.send(request("POST /containers/x/attach", "Connection: Upgrade", "Upgrade: tcp") + smuggled)
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [code, 403]
    assert len(stage.engine.seen) == 1


def test_early_input_reaches_the_tunnel(stage):
    stage.engine.answer = lambda method, target, body: TUNNELS["attach"][2]
    stage.engine.after = echo
    answer = stage.send(request(TUNNELS["attach"][0], "Connection: Upgrade", "Upgrade: tcp") + b"early")
    assert answer.endswith(b"EARLY bye")


def test_a_client_that_leaves_takes_its_request_along(stage, monkeypatch):
    monkeypatch.setattr(connection, "GRACE", 0.2)
    stage.engine.answer = lambda method, target, body: None
    with stage.connect() as client:
        client.sendall(request("POST /containers/x/wait"))
        deadline = time.monotonic() + 5
        while not stage.engine.seen and time.monotonic() < deadline:
            time.sleep(0.01)
    left = []

    async def wait():
        while any(task.get_coro().__name__ == "serve" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)
        left.append(True)

    asyncio.run_coroutine_threadsafe(wait(), stage.loop).result(5)
    assert left


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_chunked_answer_leaves_the_connection_open(stage):
    stage.engine.answer = lambda method, target, body: CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" if "json" in target else ok()
    answer = stage.send(request("GET /containers/json") + request())
    assert answer.count(b"HTTP/1.1 200") == 2


def test_an_answer_that_was_cut_off_is_seen_as_such(stage):
    stage.engine.answer = lambda method, target, body: CHUNKED + b"3\r\nabc\r\n" if "json" in target else ok()
    answer = stage.send(request("GET /containers/json") + request())
    assert answer.count(b"HTTP/1.1 200") == 1
    assert not answer.endswith(b"0\r\n\r\n")


def test_no_engine_is_said_so(tmp_path):
    with staged(tmp_path, Policy()) as stage:
        (tmp_path / "engine").unlink()
        answer = stage.send(request())
    assert status(answer) == 503
    assert b"not running" in answer


def test_a_cluster_volume_is_refused_by_name(stage):
    body = json.dumps({"Name": "vol", "ClusterVolumeSpec": {"Group": "x"}}).encode()
    answer = stage.send(post("/volumes/create", body))
    assert status(answer) == 403
    assert b"cluster volumes are part of a swarm" in answer
    assert stage.engine.seen == []


def test_without_a_policy_everything_but_the_reason_is_refused(tmp_path):
    with staged(tmp_path, deny_all("/etc/x: cut off")) as stage:
        stage.engine.answer = lambda method, target, body: ok({"SecurityOptions": ["name=seccomp"], "Warnings": None})
        assert status(stage.send(request())) == 200
        info = json.loads(body_of(stage.send(request("GET /info"))))
        assert "cut off" in info["Warnings"][0]
        for line in ("GET /containers/json", "POST /containers/x/start", "GET /images/json"):
            answer = stage.send(request(line))
            assert status(answer) == 403
            assert b"cut off" in answer


def test_info_shows_the_policy(stage):
    stage.engine.answer = lambda method, target, body: CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"
    info = json.loads(body_of(stage.send(request("GET /info"))))
    assert info["SecurityOptions"] == [f"name=cofferdam,isolation=kernel,policy=sha256:{Policy().sha256}"]


def test_the_command_list_holds_at_the_containers_door_alone(tmp_path):
    policy = Policy(command_mode="deny", commands=("push",))
    for door, expected in (("container", 403), ("host", 200)):
        directory = tmp_path / door
        directory.mkdir()
        with staged(directory, policy, door) as stage:
            answer = stage.send(request("POST /v1.43/images/myimage/push?tag=latest"))
            assert status(answer) == expected
            assert (b"/v1.43/images/myimage/push?tag=latest" in answer) == (expected == 403)


def test_a_thousand_slow_clients_do_not_stop_another(stage):
    slow = []
    try:
        for _ in range(900):
            client = stage.connect()
            client.sendall(b"GET /_ping HTTP/1.1\r\nHo")
            slow.append(client)
        started = time.monotonic()
        assert status(stage.send(request())) == 200
        assert time.monotonic() - started < connection.HEAD_TIME / 2, "it waited for the slow ones"
    finally:
        for client in slow:
            client.close()
