"""From a request's head and body to what dockerd gets, or to a verdict against it: everything that is decided, and no sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cofferdam_guest.apiproxy import commands, query, routes, target
from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.http.heads import Head
from cofferdam_guest.apiproxy.judge.request import Facts, Request
from cofferdam_guest.apiproxy.judge.verdict import judge
from cofferdam_guest.apiproxy.route import Route
from cofferdam_guest.apiproxy.schema.decode import decode, encode
from cofferdam_guest.config.policy import Policy

BODY_LIMIT = 4 << 20
"""Bytes of a JSON body; dockerd's own limit for what an authorization plugin may see."""

NOTHING = "Nothing"
_UPGRADES = {"raw": (b"tcp",), "h2c": (b"h2c",), "websocket": (b"websocket",)}
_JSON_TYPES = (b"", b"application/json")
# What dockerd or BuildKit read of a request beside the fields that the proxy sets itself.
_PASSED = frozenset(
    b"accept cache-control if-none-match sec-websocket-extensions sec-websocket-key sec-websocket-protocol sec-websocket-version "
    b"traceparent tracestate user-agent x-docker-expose-session-grpc-method x-docker-expose-session-name "
    b"x-docker-expose-session-sharedkey x-docker-expose-session-uuid x-registry-auth x-registry-config".split()
)


@dataclass(frozen=True)
class Asked:
    """A request whose head is understood: its route is known and served.

    Attributes:
        upgrade: the protocol that the client asks for, empty for none.
    """

    head: Head
    target: target.Target
    match: routes.Match
    query: query.Query
    upgrade: bytes = b""

    @property
    def route(self) -> Route:
        """The route."""
        return self.match.route

    @property
    def reads_body(self) -> bool:
        """Whether the body is judged, and not a stream that is passed on."""
        return self.route.body != "stream"


@dataclass(frozen=True)
class Forward:
    """What dockerd gets: target and fields; a body of None is a stream that follows."""

    target: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes | None


@dataclass(frozen=True)
class Rules:
    """What a door judges by.

    Attributes:
        door: `host` or `container`; the command list holds on the latter.
    """

    policy: Policy
    facts: Facts
    door: str


def understand(head: Head, rules: Rules) -> Asked:
    """Find the route of a request. Raises Denied: not understood in one way only, unknown, refused, or not on the list."""
    wanted = target.parse(head.target)
    match = routes.match(head.method, wanted.path)
    routes.refuse(match.route)
    checked = query.check(match.route.query, wanted.query)
    if rules.door == "container":
        _check_list(head, match.route, checked, rules.policy)
    return Asked(head, wanted, match, checked, _upgrade(head, match.route))


async def forward(asked: Asked, body: bytes | None, rules: Rules) -> Forward:
    """Judge a request and write it anew.

    Args:
        body: all of a body that is judged, None for a stream.

    Raises:
        Denied: dockerd must not see it.
    """
    decoded = _decoded(asked, body)
    request = Request(
        route_id=asked.route.id,
        policy=rules.policy,
        facts=rules.facts,
        params=asked.match.params,
        query=asked.query.values,
        body=decoded if asked.route.schema else None,
        version=asked.target.version,
        door=rules.door,
    )
    judged = await judge(request)
    data = encode(judged.body or {}) if asked.route.schema and (body or judged.body) else b""
    written = target.Target(asked.target.path, asked.target.version, asked.query.pairs)
    return Forward(target.forwarded(written), _fields(asked, data), data if asked.reads_body else None)


def _check_list(head: Head, route: Route, checked: query.Query, policy: Policy) -> None:
    name = commands.blocked_by(policy.command_mode, policy.commands, route.id, checked)
    if name:
        raise Denied(403, "command-list", commands.denial(name, head.target.decode("ascii")))


def _upgrade(head: Head, route: Route) -> bytes:
    """The protocol to change to. Raises Denied where none is served."""
    wanted = (head.get(b"upgrade") or b"").lower()
    if not wanted:
        return b""
    if b"upgrade" not in head.words(b"connection"):
        raise Denied(400, "upgrade", "malformed request: Upgrade without Connection: Upgrade")
    if wanted not in _UPGRADES.get(route.hijack, ()):
        raise Denied(400, "upgrade", f"{route.id} cannot be upgraded to {wanted.decode('ascii', 'replace')}")
    return wanted


def _decoded(asked: Asked, body: bytes | None) -> Any:
    if body is None:
        return None
    if asked.route.schema and body:
        _check_type(asked.head)
    return decode(body, asked.route.schema or NOTHING, asked.route.query)


def _check_type(head: Head) -> None:
    """dockerd takes JSON in UTF-8 only; a character set would be read by one side and not by the other."""
    kind, _, parameters = (head.get(b"content-type") or b"").partition(b";")
    charset = parameters.strip().lower().replace(b" ", b"").replace(b'"', b"")
    if kind.strip().lower() not in _JSON_TYPES or charset not in (b"", b"charset=utf-8"):
        raise Denied(415, "content-type", "the body must be JSON in UTF-8: Content-Type: application/json")


def _fields(asked: Asked, data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    fields = [(name, value) for name, value in asked.head.fields if name in _PASSED]
    if asked.upgrade:
        fields += [(b"connection", b"Upgrade"), (b"upgrade", asked.upgrade)]
    else:
        fields.append((b"connection", b"close"))
    if asked.route.content_type and (data or not asked.reads_body):
        fields.append((b"content-type", asked.route.content_type.encode("ascii")))
    if not asked.reads_body:
        length = asked.head.get(b"content-length")
        chunked = asked.head.get(b"transfer-encoding") is not None
        fields.append((b"transfer-encoding", b"chunked") if chunked else (b"content-length", length or b"0"))
    elif data or asked.head.method in ("POST", "PUT"):
        fields.append((b"content-length", b"%d" % len(data)))
    return tuple(fields)
