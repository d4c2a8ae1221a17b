"""A differential fuzzer over the whole proxy: what reaches dockerd is exactly what was judged.

Requests of real clients are changed in their heads, targets, framing and JSON, forbidden things are hidden in them, and they are
cut anywhere. Whatever then reaches dockerd is read by a second HTTP parser and a second reader of JSON; see proxytest.oracle.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import proxytest
from cofferdam_guest.apiproxy.plan import Rules
from cofferdam_guest.config.policy import Policy
from proxytest import gojson, oracle
from proxytest.memory import Memory
from proxytest.stage import Facts

LONG = int(os.environ.get("COFFERDAM_FUZZ", "0"))
RECORDED = Path(proxytest.__file__).with_name("recorded.jsonl")
pytestmark = pytest.mark.timeout(60 + LONG // 20)


class Pairs(list[tuple[str, Any]]):
    """An object that may have one key twice."""


class Raw(str):
    """Text that stands in JSON as it is."""


@dataclass(frozen=True)
class Seed:
    """One request before it becomes bytes; `tree` is a JSON body."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    tree: Any = None
    data: bytes = b""


def _seed(line: str) -> Seed:
    one = json.loads(line)
    fields = tuple(each for each in one["fields"].items() if each[0] != "Transfer-Encoding")
    seed = Seed(one["method"], one["target"], fields, data=one["body"].encode())
    is_json = one["body"][:1] == "{"
    return replace(seed, tree=json.loads(one["body"], object_pairs_hook=Pairs), data=b"") if is_json else seed


SEEDS = [_seed(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
CREATES = [seed for seed in SEEDS if "/containers/create" in seed.target]
BODIES = [seed for seed in SEEDS if seed.tree is not None]

BIND = Pairs([("Type", "bind"), ("Source", "/etc"), ("Target", "/x")])
DRIVER = Pairs([("Name", "local"), ("Options", Pairs([("type", "none"), ("o", "bind"), ("device", "/etc")]))])
HIDDEN: list[tuple[str, Any]] = [
    *((name, "host") for name in ("PidMode", "NetworkMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode")),
    *(("Binds", [f"{path}:/x"]) for path in ("/etc", "/run/docker.sock", "/", "/srv/data/../../etc", "bad")),
    *(("Mounts", [BIND]), ("Mounts", [Pairs([("Type", "volume"), ("Source", "bad"), ("Target", "/x")])])),
    ("Mounts", [Pairs([("Type", "volume"), ("Target", "/x"), ("VolumeOptions", Pairs([("DriverConfig", DRIVER)]))])]),
    *(
        ("CgroupParent", "/"),
        ("CgroupParent", "/docker/../system.slice"),
        ("VolumesFrom", ["evil:ro"]),
        ("Cgroup", "container:x"),
    ),
    ("Devices", [Pairs([("PathOnHost", "/dev/vda"), ("PathInContainer", "/dev/x"), ("CgroupPermissions", "rwm")])]),
    *(("DeviceRequests", [Pairs([("Driver", "cdi")])]), ("VolumeDriver", "flocker"), ("Runtime", "io.containerd.runsc.v1")),
    *(("Sysctls", Pairs([("kernel.core_pattern", "|/x")])), ("LogConfig", Pairs([("Type", "syslog")])), ("Privileged", True)),
    *(("Driver", "flocker"), ("DriverOpts", Pairs([("type", "none"), ("o", "bind"), ("device", "/etc")]))),
    ("EndpointsConfig", Pairs([("host", Pairs())])),
]
ODD: list[Any] = [
    *(None, True, [], Pairs(), "host", "a\0", "\ud800", "/etc", 0, -1, 2**63, Raw("1.0"), Raw("1e3"), Raw("-0"), Raw("1E400")),
    *(Raw("NaN"), Raw("01"), Raw('"\\u0068ost"'), Raw('"ho\\u0073t"'), Raw('"\\ud83d\\ude00"'), Raw('"\\udc00\\ud800"'), Raw("[" * 70 + "]" * 70)),
]  # fmt: skip


def spelled(rng: random.Random, key: str) -> str:
    """A key in another spelling, one of which a reader blind to case takes for it."""
    kind = rng.randrange(7)
    at = rng.randrange(len(key)) if key else 0
    if kind < 3 or not key or isinstance(key, Raw):
        return key
    if kind == 3:
        return key.lower()
    if kind == 4:
        return key.replace("s", "\u017f").replace("k", "\u212a") if rng.randrange(2) else key.upper()
    if kind == 5:
        return Raw(f'"{key[:at]}\\u{ord(key[at]):04x}{key[at + 1 :]}"')
    return key[:at] + key[at].swapcase() + key[at + 1 :]


def objects(tree: Any) -> list[Pairs]:
    """All objects of a tree, the outermost first."""
    inner = [value for _, value in tree] if isinstance(tree, Pairs) else tree if isinstance(tree, list) else []
    return ([tree] if isinstance(tree, Pairs) else []) + [each for value in inner for each in objects(value)]


def changed(rng: random.Random, tree: Any) -> Any:
    """A copy of a tree with one change."""
    tree = _copy(tree)
    found = objects(tree)
    hosts = [value for key, value in tree if key == "HostConfig" and isinstance(value, Pairs)]
    where = rng.choice(hosts) if hosts and rng.randrange(2) else rng.choice(found)
    if rng.randrange(2) and where:
        _rearrange(rng, where)
    elif rng.randrange(2) or not where:
        _hide(rng, where)
    else:
        _spoil(rng, where)
    return tree


def _rearrange(rng: random.Random, where: Pairs) -> None:
    """Most of these leave a body that dockerd takes."""
    at, kind = rng.randrange(len(where)), rng.randrange(5)
    key, value = where[at]
    if kind == 0:
        rng.shuffle(where)
    elif kind == 1 and len(where) > 1:
        where.pop(at)
    elif kind == 2:
        where[at] = (key, None)
    elif kind == 3 and key.isascii() and key.isalpha():
        where[at] = (Raw(f'"\\u{ord(key[0]):04x}{key[1:]}"'), value)
    elif isinstance(value, str) and not isinstance(value, Raw):
        where[at] = (key, Raw('"' + "".join(f"\\u{ord(char):04X}" for char in value) + '"') if value.isascii() else value)


def _hide(rng: random.Random, where: Pairs) -> None:
    """Put in something forbidden: in place of the field, or beside it."""
    key, value = rng.choice(HIDDEN)
    if rng.randrange(3):
        where[:] = [pair for pair in where if pair[0] != key]
    where.insert(rng.randrange(len(where) + 1), (spelled(rng, key), _copy(value)))


def _spoil(rng: random.Random, where: Pairs) -> None:
    at, kind = rng.randrange(len(where)), rng.randrange(3)
    key, value = where[at]
    if kind == 0:
        where.insert(rng.randrange(len(where) + 1), (spelled(rng, key), rng.choice([value, None, Pairs(), *ODD])))
    else:
        where[at] = (spelled(rng, key), value) if kind == 1 else (key, rng.choice(ODD))


def _copy(tree: Any) -> Any:
    if isinstance(tree, Pairs):
        return Pairs((key, _copy(value)) for key, value in tree)
    return [_copy(value) for value in tree] if isinstance(tree, list) else tree


def text(tree: Any) -> str:
    """A tree as JSON."""
    if isinstance(tree, Pairs):
        return "{" + ",".join(f"{text(key)}:{text(value)}" for key, value in tree) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(text, tree)) + "]"
    if isinstance(tree, Raw):
        return str(tree)
    return json.dumps(tree, ensure_ascii=not isinstance(tree, str) or "\ud800" in tree)


def body_of(rng: random.Random, seed: Seed, changes: int) -> bytes:
    """The bytes of a body, changed so many times."""
    if seed.tree is None:
        return seed.data
    tree = seed.tree
    for _ in range(changes):
        tree = changed(rng, tree)
    data = text(tree).encode()
    kind = rng.randrange(80) if changes else 79
    ends = [b'{"HostConfig":{"PidMode":"host"}}', b"\0", b" \n", b" " * 70_000, b"}", b"\xff", b"null"]
    edits = {
        0: b"\xef\xbb\xbf" + data,
        1: text(tree).encode("utf-16"),
        2: data[:-1],
        3: b"[" + data + b"]",
        4: b" " * 70_000 + data,
    }
    if 5 <= kind <= 8:
        return data + rng.choice(ends)
    if kind == 9 and data:
        at = rng.randrange(len(data))
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    return edits.get(kind, data)


TARGETS = [
    *(("/v1.45/", "/"), ("/v1.45/", "/v1.41/"), ("/v1.45/", "/v1.24/"), ("/v1.45/", "/v1.99/"), ("/v1.45/", "/v1.045/"), ("/v1.45/", "/V1.45/")),
    *(("/v1.45/", "/v1.45//"), ("/v1.45/", "/v1..45/"), ("/v1.45/", "/v1.45./"), ("/v1.45/", "/x/../v1.45/"), ("/v1.45/", "/./"), ("/v1.45/", "//")),
    *(("/v1.45/", "http://x/"), ("c", "%63"), ("c", "%2563"), ("s/", "s%2F"), ("s/", "s/./"), ("s/", "s/%2e%2e/"), ("/v1.45/", "/v1.45/swarm/../")),
    *(("?", "?networkmode=host&"), ("?", "?remote=http://127.0.0.1/&"), ("?", "?cgroupparent=/&"), ("?", "?a=b;"), ("?", "??"), ("?", "%3f"), ("?", "#?")),
    *(("?", "/?"), ("=", "=%00"), ("=", "=%ff"), ("&", ";"), ("=", "%3d"), ("=", "=a&name="), ("?", "?checkpoint=x&"), ("?", "?fromSrc=http://169.254.169.254/&")),
    *(("/containers/c", "/plugins/c"), ("/volumes/", "/swarm/"), ("/info", "/debug/vars"), ("/containers/c/start", "/containers/c/checkpoints")),
    *(("/containers/", "/Containers/"), ("/containers/c/", "/containers/c/../../"), ("c/json", "c%5cjson"), (" ", "\t"), ("/", "\\")),
]  # fmt: skip
FIELDS = [
    *(b"Content-Length: 0", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: 99999", b"Transfer-Encoding: chunked"),
    *(b"Transfer-Encoding: identity", b"transfer-encoding: chunked, identity", b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked"),
    *(b"Connection: Upgrade\r\nUpgrade: tcp", b"Connection: Upgrade\r\nUpgrade: h2c", b"Upgrade: websocket", b"Connection: close"),
    *(b"Connection: content-length", b"Expect: 100-continue", b"Expect: x", b"Content-Encoding: gzip", b"Content-Encoding: identity"),
    *(b"Content-Type: application/x-www-form-urlencoded", b"Content-Type: application/json; charset=utf-16", b"Content-Type: application/JSON"),
    *(b"X-HTTP-Method-Override: DELETE", b"Host: y", b" folded", b"\tfolded: x", b"X: \rY: z", b"X: y\nContent-Length: 1", b"X:\0", b"\xe9: x"),
    *(b"X-Registry-Auth: a\xe9", b"X-Docker-Expose-Session-Uuid: a\tb", b"User-Agent: x\x0b", b"Trailer: Content-Length", b"Accept:", b":x", b""),
]  # fmt: skip


def framed(rng: random.Random, data: bytes, odd: bool) -> tuple[list[bytes], bytes]:
    """Fields that frame a body, and the body as it is framed."""
    if rng.randrange(2) and not odd:
        return ([b"Content-Length: %d" % len(data)] if data or rng.randrange(2) else []), data
    if odd and rng.randrange(2):
        length = max(0, len(data) + rng.choice([-9, -1, 1, 9]))
        return [b"Content-Length: %d" % length], data
    size = rng.choice([1, 7, 100, 5000]) if len(data) < 5000 else 5000
    line = rng.choice(
        [b"%x\r\n", b"%X\r\n", *([b"%x;a=b\r\n", b"%x\n", b" %x\r\n", b"0x%x\r\n", b"+%x\r\n", b"%x \r\n"] if odd else [])]
    )
    chunks = [line % len(piece) + piece + b"\r\n" for at in range(0, len(data), size) for piece in [data[at : at + size]]]
    end = rng.choice(
        [
            b"0\r\n\r\n",
            *([b"00\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 1\r\n\r\n", b"0\n\n", b"", b"0\r\n"] if odd else []),
        ]
    )
    return [b"Transfer-Encoding: chunked"], b"".join(chunks) + end  # fmt: skip


def wire(rng: random.Random, seed: Seed, oddities: int, changes: int) -> bytes:
    """A request as bytes, with so many oddities of its head."""
    target, method, version, end = seed.target, seed.method, "HTTP/1.1", b"\r\n"
    odd = oddities > 0 and rng.randrange(4) == 0
    framing, body = framed(rng, body_of(rng, seed, changes), odd)
    fields = [b"Host: x", *(f"{name}: {value}".encode() for name, value in seed.fields), *framing]
    rng.shuffle(fields)
    for _ in range(oddities - odd):
        kind = rng.randrange(8)
        if kind < 3:
            target = target.replace(*rng.choice(TARGETS), 1)
        elif kind < 6:
            field = rng.choice(FIELDS)
            if rng.randrange(2):
                fields = [each for each in fields if each.partition(b":")[0].lower() != field.partition(b":")[0].lower()]
            fields.insert(rng.randrange(len(fields) + 1), field)
        elif kind == 6:
            method = rng.choice([method.lower(), "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PRI", "CONNECT"])
        else:
            version, end = rng.choice(
                [("HTTP/1.0", end), ("HTTP/1.1 ", end), ("HTTP/2.0", end), (version, b"\n"), (version, b"\r\r\n")]
            )
    return end.join([f"{method} {target} {version}".encode(), *fields, b"", b""]) + body


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """The data in pieces."""
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(4)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


class Found(Facts):
    """Every image is there: the socket in a container of a missing one is dockerd's to refuse."""

    async def image(self, name: str) -> dict[str, Any] | None:
        return {"Id": name}


@pytest.fixture(scope="module")
def proxy():
    facts = Found(container_evil={"Mounts": [oracle.EVIL]}, volume_bad=oracle.BAD)
    with Memory(Rules(Policy(mounts_allow_read_write=(oracle.ALLOWED,)), facts, "host")).running() as memory:
        yield memory


def examples(ordinary: int):
    """The budget of a property: the same examples each time, or others of a number that was asked for."""
    return settings(
        max_examples=LONG or ordinary,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


RANDOMS = st.randoms(note_method_calls=False, use_true_random=True)


def test_a_hidden_field_reaches_dockerd_as_it_was_judged_or_not_at_all(proxy):
    """One well-formed request; its JSON is the matter."""
    seen = Counter()

    @examples(2000)
    @given(RANDOMS, st.integers(1, 3))
    def holds(rng, changes):
        seed = rng.choice(CREATES if rng.randrange(3) else BODIES)
        data = body_of(rng, seed, changes)
        head = f"{seed.method} {seed.target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        arrived, answer = proxy.send([head.encode() + data])
        assert answer.startswith(b"HTTP/1.1 ")
        assert [fault for each in arrived for fault in oracle.faults(each)] == []
        for each in arrived:
            assert oracle.disagreements(seed.target.partition("?")[0].removeprefix("/v1.45"), data, bytes(each.body)) == []
        seen[len(arrived)] += 1

    holds()
    assert all(seen[count] > sum(seen.values()) // 20 for count in range(2))


EVIL = Seed("POST", "/containers/create", (), Pairs([("Image", "x"), ("HostConfig", Pairs([("PidMode", "host")]))]))


def test_requests_in_a_row_reach_dockerd_as_they_were_judged_or_not_at_all(proxy):
    """Heads, targets, framing, cuts; what comes behind a request may be an evil one."""
    seen = Counter()

    @examples(2000)
    @given(RANDOMS, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=3), st.booleans())
    def holds(rng, plan, agree):
        seeds = [rng.choice(SEEDS) for _ in plan]
        data = b"".join(wire(rng, seed, *oddness) for seed, oddness in zip(seeds, plan, strict=True))
        if rng.randrange(2):
            data += wire(rng, EVIL, 0, 0)
        arrived, _ = proxy.send(cut(rng, data), agree=agree)
        assert [fault for each in arrived for fault in oracle.faults(each)] == []
        seen[len(arrived)] += 1

    holds()
    assert all(seen[count] > sum(seen.values()) // 50 for count in range(4))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed.method} {seed.target.partition('?')[0]}")
def test_what_clients_send_reaches_dockerd(proxy, seed):
    (arrived,), _ = proxy.send([wire(random.Random(1), seed, 0, 0)])
    assert arrived.whole
    assert oracle.faults(arrived) == []
    assert seed.tree is not None or bytes(arrived.body) == seed.data


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('{"hostconfig":{"privileged":true}}', {"hostconfig": {"privileged": True}}),
        ('{"Ho\u017ftConfig":{"Networ\u212aMode":"host"}}', {"hostconfig": {"networkmode": "host"}}),
        ('{"\\u0048ostConfig":{"Priv\\u0069leged":true}}', {"hostconfig": {"privileged": True}}),
        ('{"A":{"P":true,"B":["/"]},"a":{"p":false}}', {"a": {"p": False, "b": ["/"]}}),
        ('{"HostConfig":{"A":1},"HostConfig":null}', {"hostconfig": None}),
        ('{"Mounts":[{"Source":"/etc"}],"Mounts":[{"Target":"/x"}]}', {"mounts": [{"source": "/etc", "target": "/x"}]}),
        ('{"Sysctls":{"a":"1"},"Sysctls":{"A":"2"}}', {"sysctls": {"a": "1", "A": "2"}}),
        ('{"a":"\\ud800","b":"\\u0000","c":"\\ud83d\\ude00"}', {"a": "\ufffd", "b": "\0", "c": "\U0001f600"}),
    ],
)
def test_the_second_reader_reads_as_dockerd_was_measured_to(sent, read):
    assert gojson.read(sent.encode()) == read


@pytest.mark.parametrize(("key", "value"), HIDDEN, ids=lambda value: text(value))
def test_a_hidden_thing_in_plain_sight_is_not_passed_on_as_it_is(proxy, key, value):
    trees = [
        Pairs([("HostConfig", Pairs([(key, value)]))]),
        Pairs([("NetworkingConfig", Pairs([(key, value)]))]),
        Pairs([(key, value)]),
    ]
    for target, tree in [
        *(("/containers/create", Pairs([("Image", "x"), *tree])) for tree in trees),
        ("/volumes/create", trees[2]),
    ]:
        arrived, answer = proxy.send([wire(random.Random(1), Seed("POST", target, (), tree), 0, 0)])
        assert [fault for each in arrived for fault in oracle.faults(each)] == []
        assert bool(arrived) == answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("key", "value"), HIDDEN, ids=lambda value: text(value))
def test_the_oracle_knows_every_hidden_thing(key, value):
    path = {"Driver": "/volumes/create", "DriverOpts": "/volumes/create"}.get(key, "/containers/create")
    own = "NetworkingConfig" if key == "EndpointsConfig" else "HostConfig"
    tree = Pairs([(key, value)])
    host = gojson.read(text(tree if path == "/volumes/create" else Pairs([("HostConfig", Pairs()), (own, tree)])).encode())
    assert bool(set(oracle.forbidden(path, host)) - {"runtime None"}) == (key != "Privileged")
