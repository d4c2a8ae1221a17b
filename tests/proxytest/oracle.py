"""What must hold for every request that reaches dockerd, whatever a client had sent. Written from the rules, without the judges' code.

The rules are those of a policy that allows `/srv/data` to be mounted; container `evil` and volume `bad` hold files of the VM.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote

from proxytest import gojson
from proxytest.memory import Arrived

ALLOWED = "/srv/data"
EVIL = {"Type": "bind", "Source": "/etc", "Destination": "/etc", "RW": True}
BAD = {"Driver": "local", "Options": {"type": "none", "o": "bind", "device": "/etc"}}

_TARGET = re.compile(
    r"(/v1\.[0-9]{2})?((?:/(?!\.{1,2}(?:/|$|\?))(?:[A-Za-z0-9:@\-._~!$&'()*+,=]|%[0-9A-F]{2})+)+)(?:\?([!-~]*))?"
)
_FIELDS = frozenset(
    b"accept cache-control connection content-length content-type host if-none-match sec-websocket-extensions sec-websocket-key"
    b" sec-websocket-protocol sec-websocket-version traceparent tracestate transfer-encoding upgrade user-agent"
    b" x-docker-expose-session-grpc-method x-docker-expose-session-name x-docker-expose-session-sharedkey"
    b" x-docker-expose-session-uuid x-registry-auth x-registry-config".split()
)
_TYPES = (b"application/json", b"application/x-tar")
_REPEATED = frozenset(b"accept cache-control user-agent".split())
_REFUSED = re.compile(
    r"(POST|DELETE) /(plugins|swarm|services|nodes|secrets|configs)/.*|PUT /volumes/.*|\S+ /debug/.*|OPTIONS .*"
)
_CHECKPOINT = re.compile(r"/containers/.*/checkpoints(/[^/]+)?")
_DEVICES = ("/dev/fuse", "/dev/net/tun", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
_HOST_ONLY = frozenset(
    (
        "privileged",
        "binds",
        "mounts",
        "pidmode",
        "ipcmode",
        "utsmode",
        "networkmode",
        "cgroupparent",
        "devices",
        "volumedriver",
        "runtime",
        "memory",
    )
)
STRICT = (
    *("binds", "capadd", "cgroup", "cgroupparent", "devicerequests", "devices", "ipcmode", "logconfig", "mounts", "networkmode"),
    *("pidmode", "portbindings", "privileged", "securityopt", "sysctls", "tmpfs", "utsmode", "volumesfrom"),
)
"""Fields of HostConfig that the proxy passes on or refuses, but never rewrites, the addresses of ports aside."""


def faults(arrived: Arrived) -> list[str]:
    """Everything that is wrong with a request that reached dockerd; empty when nothing is."""
    if arrived.broken or arrived.request is None:
        return [f"a second parser says: {arrived.broken or 'no request'}"]
    method, target = arrived.request.method.decode(), arrived.request.target.decode()
    found = _TARGET.fullmatch(target)
    if found is None or re.search("%(?:4[1-9A-F]|5[0-9A]|6[1-9A-F]|7[0-9A]|3[0-9])", found[2]):
        return [f"the target {target} has another spelling"]
    path, query = unquote(found[2]), parse_qsl(found[3] or "", keep_blank_values=True)
    out = [*_framing(arrived), *_query(query, arrived), *_forbidden_query(path, dict(reversed(query)))]
    if _REFUSED.fullmatch(f"{method} {path}") or _CHECKPOINT.fullmatch(path):
        out.append(f"{method} {path} is refused")
    if any(value not in path for value in arrived.judged.params.values()):
        out.append(f"judged was {dict(arrived.judged.params)}, not {path}")
    if arrived.whole and arrived.judged.body is not None:
        out += _body(path, arrived)
    return out


def _framing(arrived: Arrived) -> Iterator[str]:
    assert arrived.request is not None
    names = [name for name, _ in arrived.request.headers]
    if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
        yield "more than one framing"
    yield from (f"{name!r} is not for dockerd" for name in names if name not in _FIELDS)
    kinds = [value for name, value in arrived.request.headers if name == b"content-type"]
    yield from (f"the type {kind!r}, which could be a form's" for kind in kinds if kind not in _TYPES)
    single = [name for name in names if not name.startswith((b"x-docker-", b"sec-", b"trace", b"if-")) and name not in _REPEATED]
    yield from (f"{name!r} is there twice" for name in set(single) if single.count(name) > 1)


def _query(query: list[tuple[str, str]], arrived: Arrived) -> Iterator[str]:
    seen: dict[str, list[str]] = {}
    for key, text in query:
        seen.setdefault(key, []).append(text)
    if seen.keys() != arrived.judged.query.keys():
        yield f"judged was the query {arrived.judged.query}, not {query}"
        return
    for key, judged in arrived.judged.query.items():
        texts: Any = seen[key]
        if isinstance(judged, dict):
            texts = gojson.read((texts[0] or "{}").encode(), key)
            judged = gojson.folded(judged, key)
        elif isinstance(judged, str):
            judged = [judged]
        elif texts[0].startswith("[") and len(texts) == 1 and judged != texts:
            texts, judged = gojson.read(texts[0].encode()), gojson.folded(judged)
        if texts != judged:
            yield f"judged was {key}={judged}, not {texts}"


def _body(path: str, arrived: Arrived) -> Iterator[str]:
    assert arrived.request is not None
    read = gojson.read(bytes(arrived.body)) if arrived.body else {}
    judged = gojson.folded(arrived.judged.body)
    if read != judged:
        yield f"judged was {judged}, dockerd reads {read}"
    if arrived.body and (b"content-type", b"application/json") not in list(arrived.request.headers):
        yield "JSON without its type"
    yield from forbidden(path, read)


def forbidden(path: str, body: Any) -> list[str]:
    """What must not be in a body, as dockerd reads it."""
    if path == "/containers/create":
        host = body.get("hostconfig")
        names = (body.get("networkingconfig") or {}).get("endpointsconfig") or {}
        return [
            *_host(body if host is None else host, new=True),
            *(f"{name} beside the image" for name in _HOST_ONLY & body.keys()),
            *("the network of the VM" for name in names if name == "host"),
        ]
    if path.endswith("/update"):
        return list(_host(body))
    if path == "/volumes/create":
        return list(_volume(body.get("driver"), body.get("driveropts")))
    return []


def _host(host: dict[str, Any], *, new: bool = False) -> Iterator[str]:
    for name in ("pidmode", "ipcmode", "utsmode", "networkmode", "usernsmode", "cgroupnsmode"):
        if host.get(name) == "host":
            yield f"{name} host"
    for bind in host.get("binds") or []:
        yield from _source(bind.split(":")[0] if ":" in bind else "", "volume")
    for mount in host.get("mounts") or []:
        driver = (mount.get("volumeoptions") or {}).get("driverconfig") or {}
        yield from _source(mount.get("source") or "", mount.get("type"))
        yield from _volume(driver.get("name"), driver.get("options"))
    if any(name.partition(":")[0] == "evil" for name in host.get("volumesfrom") or []):
        yield "volumes of evil"
    parent = host.get("cgroupparent") or ""
    if parent and (not parent.startswith("/docker/") or "/../" in parent + "/" or ":" in parent):
        yield f"control group {parent}"
    yield from (f"device {each}" for each in host.get("devices") or [] if each.get("pathonhost") not in _DEVICES)
    yield from (name for name in ("cgroup", "devicerequests") if host.get(name))
    if new and host.get("runtime") != "sysbox-runc":
        yield f"runtime {host.get('runtime')}"
    if (host.get("logconfig") or {}).get("type") not in (None, "", "json-file", "local", "none"):
        yield "log driver"
    yield from (f"sysctl {name}" for name in host.get("sysctls") or {} if not name.startswith("net."))
    yield from _volume(host.get("volumedriver"), {})


def _source(source: str, kind: str | None) -> Iterator[str]:
    if source.startswith("/") or kind == "bind":
        path = posixpath.normpath("/" + source.lstrip("/"))
        if not source.startswith("/") or not (path + "/").startswith(ALLOWED + "/"):
            yield f"bind of {source}"
    elif source == "bad" or "/" in source:
        yield f"volume {source}"


def _volume(driver: str | None, options: dict[str, str] | None) -> Iterator[str]:
    if driver not in (None, "", "local"):
        yield f"volume driver {driver}"
    words = (options or {}).get("o", "").split(",")
    if {"bind", "rbind"} & set(words) or (options or {}).get("device", "tmpfs") not in ("tmpfs", "none"):
        yield f"volume options {options}"


def _forbidden_query(path: str, query: dict[str, str]) -> Iterator[str]:
    if path == "/build":
        if query.get("networkmode") == "host" or query.get("cgroupparent", "/docker/")[:8] != "/docker/":
            yield f"build {query}"
        if query.get("remote", "").startswith(("http://169.", "http://127.")):
            yield "a build from inside"
    if path == "/images/create" and re.match(r"(https?://)?(169\.254|127|10\.0\.2)\.", query.get("fromSrc", "")):
        yield "an import from inside"
    if query.get("checkpoint"):
        yield "a checkpoint"


def prune(value: Any) -> Any:
    """A value without what says nothing: null and zero values of all types."""
    if isinstance(value, dict):
        return {key: one for key, old in value.items() if (one := prune(old))}
    if isinstance(value, list):
        return [prune(one) for one in value]
    return value


def disagreements(path: str, sent: bytes, arrived: bytes) -> list[str]:
    """Where dockerd would have read a body as it was sent otherwise than the one that it got."""
    theirs, ours = gojson.read(sent), gojson.read(arrived)
    if path != "/containers/create":
        return []
    host = theirs.get("hostconfig")
    theirs = prune(theirs if host is None else host)
    ours = prune(ours["hostconfig"])
    if isinstance(theirs.get("capadd"), str):
        theirs["capadd"] = [theirs["capadd"]]  # Go: strslice
    for place in [place for places in theirs.get("portbindings", {}).values() for place in places]:
        if re.fullmatch(r"\d+(\.\d+){3}", place.get("hostip", "")):
            place["hostip"] = "0.0.0.0"  # an address of the desktop
    return [f"{name}: {theirs.get(name)} became {ours.get(name)}" for name in STRICT if theirs.get(name) != ours.get(name)]
