"""The rows of known ways around filters of this API, through the whole proxy: what is refused never reaches dockerd.

| row | test |
| --- | --- |
| P01 P02 | here, and test_target |
| P03 | test_connection: `test_what_is_not_one_plain_request_is_refused` |
| P04 | test_connection: `test_bytes_behind_an_empty_body_are_a_request_of_their_own` |
| P05 | here; test_connection: `test_a_body_is_judged_whole_or_not_taken`, `test_padding_does_not_hide_what_follows` |
| P06 P07 | here; test_connection: `test_chunks_of_one_byte`, and its table of heads |
| P08 | here, at every byte; test_connection over sockets |
| P09 | here; test_connection: `test_no_tunnel_without_the_engines_word`, `test_early_input_reaches_the_tunnel` |
| P10 | here; test_connection: `test_a_tunnel_with_a_half_close` |
| P11 | here; test_connection: `http-2-preface`, `h2c-of-ping`, `h2c-of-attach` |
| P12 | the client's own library |
| P13-P26 | here; test_schema |
| P27 P28 | here; judge/test_mounts |
| P29 P30 | judge/test_mounts, judge/test_volumes, judge/test_clients |
| P31-P36 | here; judge/ |
| P37 | test_images_judge |
| P38 | test_connection: `test_without_a_policy_everything_but_the_reason_is_refused` |
| P39 | test_rows_load; test_connection: `test_a_thousand_slow_clients_do_not_stop_another` |
| P40 | test_connection: `test_no_engine_is_said_so`, `test_an_answer_that_was_cut_off_is_seen_as_such` |
| P41 | test_fuzz |
| P42 | here |
| P43 | test_rows_load; test_connection: `test_an_early_answer_ends_an_upload` |
| P44 | on the VM |
"""

from __future__ import annotations

import json
import re

import pytest

from cofferdam_guest.apiproxy.plan import Rules
from cofferdam_guest.apiproxy.routes import ROUTES
from cofferdam_guest.config.policy import Policy
from proxytest import gojson
from proxytest.memory import Memory
from proxytest.requests import post, request, status
from proxytest.stage import Facts, ok, staged

OLD = {
    "Image": "sha256:1",
    "Config": {"Image": "x"},
    "HostConfig": {"Binds": ["/etc:/x"], "PidMode": "host"},
    "Mounts": [{"Type": "bind", "Source": "/etc", "Destination": "/x", "RW": True}],
}
BIND = {"Name": "local", "Options": {"type": "none", "o": "bind", "device": "/etc"}}
BAD = {"Driver": "local", "Options": BIND["Options"]}
EVIL = b'{"Image":"x","HostConfig":{"PidMode":"host"}}'


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with staged(tmp_path_factory.mktemp("rows"), Policy(), facts=Facts(container_old=OLD, volume_bad=BAD, image_x={})) as made:
        yield made


@pytest.fixture
def stage(running):
    running.engine.seen.clear()
    running.engine.answer = lambda method, target, body: ok()
    running.engine.after = None
    return running


def refused(stage, data, *codes):
    """Refused, and not a byte of it has reached dockerd."""
    answer = stage.send(data)
    assert status(answer) in (codes or (400, 403))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert stage.engine.seen == []


def got(stage):
    """Request line and body of the one request that has reached dockerd."""
    (raw,) = stage.engine.seen
    head, _, body = bytes(raw).partition(b"\r\n\r\n")
    return head.partition(b" HTTP/1.1")[0].decode(), body


@pytest.mark.parametrize("version", ["v1.24", "v1.40", "v1.45", "v1.99"], ids=lambda text: f"P01-{text}")
def test_a_version_does_not_change_the_verdict(stage, version):
    refused(stage, post(f"/{version}/containers/create", EVIL), 403)
    assert status(stage.send(request(f"GET /{version}/containers/json"))) == 200
    assert got(stage)[0] == f"GET /{version}/containers/json"


SPELLINGS = ("v9", "v1.47.", "v1..47", "v.1.47", "v1.047", "V1.47", "v1.23", "v")


@pytest.mark.parametrize("version", SPELLINGS, ids=lambda text: f"P01-{text}")
def test_another_spelling_of_a_version_is_refused(stage, version):
    refused(stage, post(f"/{version}/containers/create", EVIL), 400)


PATHS = (
    *("/containers%2Fcreate", "/%2e%2e/containers/create", "/%252e/containers/create", "//containers/create", "/./containers/create"),
    *("/x/../containers/create", "/containers/create/", "/containers/create;a=b", "/containers\\create", "/containers%5Ccreate"),
    *("/containers/create%00", "/containers/create%3fa=b", "/v1.45//containers/create", "/v1.45/../containers/create", "/containers/create#"),
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda text: f"P02-{text}")
def test_another_spelling_of_a_path_is_refused(stage, path):
    refused(stage, post(path, EVIL), 400)
    refused(stage, post(path, b'{"Image":"x"}'), 400)


def test_p02_an_escaped_letter_is_the_letter(stage):
    """`%63ontainers`."""
    refused(stage, post("/%63ontainers/create", EVIL), 403)
    assert status(stage.send(request("GET /%63ontainers/json"))) == 200
    assert got(stage)[0] == "GET /containers/json"


@pytest.mark.parametrize("size", [(1 << 20) + 1, (4 << 20) - 100], ids=lambda size: f"P05-{size}")
@pytest.mark.parametrize("place", ["string", "blanks", "behind", "before"])
def test_padding_hides_nothing(stage, size, place):
    texts = {
        "string": b'{"Image":"x","Env":["%s"],"HostConfig":{"PidMode":"host"}}' % (b"x" * size),
        "blanks": b'{"Image":"x",%s"HostConfig":{"PidMode":"host"}}' % (b" " * size),
        "behind": EVIL + b"\n" * size,
        "before": b"\t" * size + EVIL,
    }
    refused(stage, post("/containers/create", texts[place]), 403)


BODY = b'{"Image":"x"}'  # 0xd bytes
CHUNKS = {
    "bare-line-feeds": b"d\n%s\n0\n\n",
    "blank": b" d\r\n%s\r\n0\r\n\r\n",
    "hex-prefix": b"0xd\r\n%s\r\n0\r\n\r\n",
    "sign": b"+d\r\n%s\r\n0\r\n\r\n",
    "too-long": b"fffffffffffffffff\r\n%s\r\n0\r\n\r\n",
    "trailer": b"d\r\n%s\r\n0\r\nContent-Length: 9\r\n\r\n",
    "no-end-of-chunk": b"d\r\n%s0\r\n\r\n",
}
LENGTHS = {
    "P06-other-coding": ("Transfer-Encoding: xchunked", b"d\r\n%s\r\n0\r\n\r\n"),
    "P06-two-codings": ("Transfer-Encoding: chunked, identity", b"d\r\n%s\r\n0\r\n\r\n"),
    "P06-capitals": ("Transfer-Encoding: Chunked", b"d\r\n%s\r\n0\r\n\r\n"),
    "P06-tab-before-colon": ("Transfer-Encoding\t: chunked", b"d\r\n%s\r\n0\r\n\r\n"),
    "P06-twice": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"d\r\n%s\r\n0\r\n\r\n"),
    "P07-length-and-chunks": ("Content-Length: 13\r\nTransfer-Encoding: chunked", b"d\r\n%s\r\n0\r\n\r\n"),
    "P07-chunks-and-length": ("Transfer-Encoding: chunked\r\nContent-Length: 13", b"d\r\n%s\r\n0\r\n\r\n"),
    "P07-two-lengths": ("Content-Length: 13\r\nContent-Length: 13", b"%s"),
    "P07-two-other-lengths": ("Content-Length: 13\r\nContent-Length: 0", b"%s"),
    "P07-plus": ("Content-Length: +13", b"%s"),
    "P07-hex": ("Content-Length: 0xd", b"%s"),
    "P07-list": ("Content-Length: 13, 13", b"%s"),
    "P07-fraction": ("Content-Length: 13.0", b"%s"),
}


def test_p06_plain_chunks_and_lengths_are_taken(stage):
    """What the tables spoil. Extensions of chunks end here: what dockerd gets is framed anew."""
    for field, body in (("Transfer-Encoding: chunked", b"d%s\r\n%s\r\n0\r\n\r\n"), ("Content-Length: 13", b"%s%s")):
        for extension in (b"", b";a=b") if b"\r" in body else (b"",):
            assert status(stage.send(request("POST /containers/create", field, body=body % (extension, BODY)))) == 200
    assert all(b"chunked" not in raw and b";a" not in raw for raw in stage.engine.seen)


@pytest.mark.parametrize("name", LENGTHS)
def test_a_body_framed_in_two_ways_or_none_is_refused(stage, name):
    field, body = LENGTHS[name]
    refused(stage, request("POST /containers/create", field, body=body % BODY), 400)


@pytest.mark.parametrize("name", CHUNKS, ids=lambda name: f"P06-{name}")
def test_odd_chunks_are_refused(stage, name):
    data = request(
        "POST /containers/create", "Transfer-Encoding: chunked", "Content-Type: application/json", body=CHUNKS[name] % BODY
    )
    refused(stage, data, 400)


def test_p08_a_second_request_is_judged_wherever_the_first_one_is_cut():
    """At each byte."""
    data = request("GET /_ping") + post("/containers/create", EVIL) + request("GET /version")
    with Memory(Rules(Policy(), Facts(), "host")).running() as proxy:
        for at in range(1, len(data)):
            arrived, answer = proxy.send([data[:at], data[at:]])
            assert [each.request.target for each in arrived] == [b"/_ping", b"/version"], at
            assert answer.count(b"HTTP/1.1 403") == 1, at


@pytest.mark.parametrize("line", ["GET /containers/json", "POST /containers/x/start", "GET /_ping", "POST /build", "GET /events"])
@pytest.mark.parametrize("protocol", ["tcp", "h2c", "websocket", "TLS/1.0"], ids=lambda text: f"P09-{text}")
def test_other_routes_are_not_upgraded(stage, line, protocol):
    refused(stage, request(line, "Connection: Upgrade", f"Upgrade: {protocol}"), 400)


@pytest.mark.parametrize("code", [200, 404, 409], ids=lambda code: f"P09-{code}")
@pytest.mark.parametrize("line", ["POST /exec/x/start", "GET /containers/x/attach/ws", "POST /session", "POST /grpc"])
def test_without_a_tunnel_what_follows_is_a_request(stage, line, code):
    stage.engine.answer = lambda method, target, body: ok({}, code)
    protocol = {"GET": "websocket"}.get(line[:3], "tcp" if "exec" in line else "h2c")
    answer = stage.send(request(line, "Connection: Upgrade", f"Upgrade: {protocol}") + post("/containers/create", EVIL))
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [code, 403]
    assert got(stage)[0] == line


async def echo(reader, writer, raw):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def test_p10_a_websocket_is_passed_on(stage):
    """With an Origin, which browsers send."""
    agreed = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
    stage.engine.answer, stage.engine.after = lambda method, target, body: agreed, echo
    fields = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: abc",
        "Sec-WebSocket-Version: 13",
        "Origin: http://evil",
    )
    answer = stage.send(request("GET /containers/x/attach/ws?stream=1", *fields) + b"\x81\x01a")
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"Sec-WebSocket-Accept: x" in answer or b"sec-websocket-accept: x" in answer
    assert answer.endswith(b"\x81\x01a")
    assert b"origin" not in bytes(stage.engine.seen[0]).lower()


@pytest.mark.parametrize("detach", [b"true", b"false"], ids=lambda text: f"P10-{text.decode()}")
def test_a_detached_exec_leaves_the_connection_a_connection_of_requests(stage, detach):
    data = post("/exec/x/start", b'{"Detach":%s}' % detach) + post("/containers/create", EVIL)
    answer = stage.send(data)
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 403]
    assert got(stage) == ("POST /exec/x/start", b'{"Detach":%s}' % detach)


SOLVE = "/moby.buildkit.v1.Control/Solve"


@pytest.mark.parametrize("path", [SOLVE, "/", "/_ping", f"/grpc{SOLVE}", f"/v1.45{SOLVE}"], ids=lambda path: f"P11-{path}")
def test_grpc_is_spoken_nowhere_but_behind_an_upgrade(stage, path):
    refused(stage, post(path, b"\0\0\0\0\0", "application/grpc", "TE: trailers"), 400, 404, 405)


@pytest.mark.parametrize("path", ["/grpc", "/session"], ids=lambda path: f"P11-{path}")
def test_grpc_in_a_body_is_refused(stage, path):
    refused(stage, post(path, b"\0\0\0\0\0", "application/grpc"), 400)
    refused(stage, post(path, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "application/grpc"), 400)
    assert status(stage.send(post(path, b"", "application/grpc"))) == 200
    assert b"grpc" not in bytes(stage.engine.seen[0]).partition(b"\r\n")[2].lower()


FIELDS = {
    "Privileged": '"Privileged":true',
    "Binds": '"Binds":["/:/h"]',
    "Mounts": '"Mounts":[{"Type":"bind","Source":"/etc","Target":"/h"}]',
    "PidMode": '"PidMode":"host"',
    "Runtime": '"Runtime":"runc"',
    "CgroupParent": '"CgroupParent":"/"',
}
HIDDEN = {
    "P13-lower-case": '{"Image":"a","hostconfig":{%s}}',
    "P14-long-s": '{"Image":"a","Ho\u017ftConfig":{%s}}',
    "P15-escaped-long-s": '{"Image":"a","Ho\\u017ftConfig":{%s}}',
    "P16-repeated-and-merged": '{"Image":"a","HostConfig":{%s},"HostConfig":{"Memory":5}}',
    "P17-repeated-with-a-later-value": '{"Image":"a","HostConfig":{"Memory":5},"HostConfig":{%s}}',
    "P18-repeated-by-another-case": '{"Image":"a","HostConfig":{},"hostConfig":{%s}}',
    "P19-repeated-with-null": '{"Image":"a","HostConfig":{%s},"HostConfig":null}',
    "P20-list-merged-by-index": '{"Image":"a","HostConfig":{%s,"Mounts":[{"Type":"tmpfs"}],"Mounts":[{"Target":"/x"}]}}',
    "P21-repeated-map": '{"Image":"a","HostConfig":{%s,"Sysctls":{"a":"1"},"Sysctls":{"b":"2"}}}',
    "P22-second-document": '{"Image":"a","HostConfig":{}}{"HostConfig":{%s}}',
    "P23-half-a-surrogate-pair": '{"Image":"a\\ud800","HostConfig":{%s}}',
    "P23-not-utf-8": '{"Image":"a\udcff","HostConfig":{%s}}',
    "P23-nul": '{"Image":"a\\u0000","HostConfig":{%s}}',
    "P24-byte-order-mark": '\ufeff{"Image":"a","HostConfig":{%s}}',
    "P24-depth": '{"Image":"a","HostConfig":{%s,"LxcConf":' + "[" * 10_001 + "]" * 10_001 + "}}",
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("row", HIDDEN)
def test_what_json_hides_is_refused(stage, row, field):
    refused(stage, post("/containers/create", (HIDDEN[row] % FIELDS[field]).encode("utf-8", "surrogateescape")), 400)


@pytest.mark.parametrize("field", FIELDS, ids=lambda name: f"P15-{name}")
def test_an_escaped_key_gets_the_verdict_of_the_plain_one(stage, field):
    plain = f'{{"Image":"a","HostConfig":{{{FIELDS[field]}}}}}'
    escaped = plain.replace("HostConfig", "\\u0048ostConfig").replace(field, f"\\u{ord(field[0]):04x}{field[1:]}")
    answers = [stage.send(post("/containers/create", text.encode())) for text in (plain, escaped)]
    assert answers[0] == answers[1]
    assert status(answers[0]) == (200 if field in ("Privileged", "Runtime") else 403)
    for raw in stage.engine.seen:
        host = gojson.read(bytes(raw).partition(b"\r\n\r\n")[2])["hostconfig"]
        assert host["runtime"] == "sysbox-runc"
        assert host.keys() <= {"runtime", "privileged", "extrahosts"}


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-16", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
    ids=lambda kind: f"P25-{kind}",
)  # fmt: skip
def test_other_types_than_json_are_refused(stage, kind):
    refused(stage, post("/containers/create", b'{"Image":"a"}', kind), 415)


@pytest.mark.parametrize("kind", ["application/JSON", "", "application/json;charset=UTF-8"], ids=lambda kind: f"P25-{kind}")
def test_json_by_any_name_is_judged(stage, kind):
    refused(stage, post("/containers/create", EVIL, kind), 403)
    assert status(stage.send(post("/containers/create", b'{"Image":"a"}', kind))) == 200
    assert b"content-type: application/json\r\n" in stage.engine.seen[0]


def test_p25_two_types_are_refused(stage):
    refused(stage, post("/containers/create", b'{"Image":"a"}', "application/json", "Content-Type: text/plain"), 400)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZIP", "identity, gzip"], ids=lambda coding: f"P26-{coding}")
def test_compressed_bodies_are_refused(stage, coding):
    refused(stage, post("/containers/create", b'{"Image":"a"}', "application/json", f"Content-Encoding: {coding}"), 415)


REFUSED = [
    *(("P27", "POST /containers/create", {"Image": "x", "HostConfig": host}) for host in (
        {"Binds": ["/etc:/x"]}, {"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/x"}]}, {"VolumesFrom": ["old:ro"]},
        {"Binds": ["bad:/x"]}, {"Mounts": [{"Type": "volume", "Source": "bad", "Target": "/x"}]}, {"VolumeDriver": "flocker"},
        {"Tmpfs": {"/x": "bind"}}, {"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": {"DriverConfig": BIND}}]},
    )),
    ("P27", "POST /volumes/create", {"Name": "v1", "DriverOpts": BIND["Options"]}),
    ("P28", "POST /containers/create", {"Image": "x", "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/x"}]}}),
    ("P31", "POST /containers/x/update", {"Devices": [{"PathOnHost": "/dev/vda"}]}),
    ("P31", "POST /containers/x/update", {"CgroupParent": "/"}),
    ("P31", "POST /containers/x/update", {"Ulimits": [{"Name": "rtprio", "Soft": 1, "Hard": 1}]}),
    *(("P31", f"POST /containers/old/{verb}", None) for verb in ("start", "restart")),
    *(("P33", f"{method} /containers/old/archive?path=/", None) for method in ("GET", "PUT")),
    *(("P34", line, None) for line in ("POST /plugins/pull?remote=x", "POST /plugins/x/enable", "POST /swarm/init")),
    *(("P34", line, None) for line in ("POST /services/create", "POST /containers/x/checkpoints", "GET /debug/pprof/heap")),
    ("P34", "POST /containers/x/start?checkpoint=y", None),
    *(("P35", f"POST /build?{query}", None) for query in ("networkmode=host", "cgroupparent=/", "remote=http://169.254.169.254/")),
    ("P35", "POST /build?networkmode=host&networkmode=none", None),
    ("P35", "POST /build?securityopt=seccomp%3Dunconfined", None),
    *(("P36", f"POST /images/create?fromSrc={url}", None) for url in ("http://169.254.169.254/", "http://127.0.0.1:2375/x", "10.0.2.2/x")),
    *(("P36", f"POST /images/create?fromSrc={url}", None) for url in ("http://[::1]/", "http://2130706433/", "file:///etc/shadow")),
]  # fmt: skip


@pytest.mark.parametrize(("row", "line", "body"), REFUSED, ids=[f"{row}-{line}" for row, line, _ in REFUSED])
def test_what_reaches_out_of_the_containers_is_refused(stage, row, line, body):
    data = post(line.removeprefix("POST "), json.dumps(body).encode()) if body else request(line)
    refused(stage, data, 400, 403)


def test_p32_an_exec_is_written_anew_and_left_to_the_wrapper(stage):
    """Its privileges are those of the container."""
    body = {"Cmd": ["sh"], "Privileged": True, "User": "0", "Env": ["LD_PRELOAD=/x"], "WorkingDir": "/proc/self/fd/7"}
    assert status(stage.send(post("/containers/x/exec", json.dumps(body).encode()))) == 200
    line, sent = got(stage)
    assert (line, json.loads(sent)) == ("POST /containers/x/exec", body)
    stage.engine.seen.clear()
    refused(stage, post("/containers/x/exec", json.dumps(body | {"privileged": False}).encode()), 400)


def example(route):
    """A request of a route: method, target, body."""
    path = re.sub(r"\{\w+(:[^}]*)?\}", "x1", route.template)
    needed = {"ImageCreate": "?fromImage=alpine", "ImageSearch": "?term=x"}.get(route.id, "")
    body = (
        b'{"Image":"x"}' if route.id == "ContainerCreate" else b"{}" if route.schema else b"x" if route.body == "stream" else b""
    )
    return route.method.replace("*", "GET"), path + needed, body


@pytest.mark.parametrize("version", ["", "/v1.45"])
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"P42-{route.id}")
def test_every_route_of_dockerd_reaches_it_or_does_not(stage, route, version):
    method, target, body = example(route)
    stage.engine.answer = lambda method, target, body: (
        ok() if method != "HEAD" else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    data = request(f"{method} {version}{target}", *([f"Content-Length: {len(body)}"] if body else []), body=body)
    if not route.allowed:
        refused(stage, data, 400, 403)
        return
    assert status(stage.send(data)) == 200
    line, sent = got(stage)
    assert line == f"{method} {version}{target}"
    assert bool(sent) == (body not in (b"", b"{}") or (body == b"{}" and sent == b"{}"))


@pytest.mark.parametrize(
    "line", ["GET /containersXYZ", "POST /containers/x/copy", "GET /v1.45", "PATCH /info"], ids=lambda line: f"P42-{line}"
)
def test_what_is_no_route_of_dockerd_does_not_reach_it(stage, line):
    refused(stage, request(line), 400, 404, 405)  # fmt: skip
