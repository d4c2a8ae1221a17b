"""The routes of the engine's API: which one a request means, decided as dockerd's own router decides.

dockerd takes the first route in registration order whose method and whole path fit (`{name}` is one segment, `{name:.*}` any
text, slashes included). The table of routetable.py is in that order. What is not in it does not exist here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.route import Route
from cofferdam_guest.apiproxy.routetable import ROUTES

__all__ = ["ROUTES", "Match", "Route", "match", "refuse"]


@dataclass(frozen=True)
class Match:
    """A route and what stands for the names of its template."""

    route: Route
    params: dict[str, str]


def match(method: str, path: str) -> Match:
    """Return the route of a request. Refused routes are returned too; `refuse` raises for them.

    Args:
        method: as sent; methods are case-sensitive.
        path: decoded, without a version.

    Raises:
        Denied: 404 for an unknown path, 405 for a known path with another method.
    """
    others = False
    for pattern, route in _COMPILED:
        found = pattern.fullmatch(path)
        if found and route.method in (method, "*"):
            return Match(route, found.groupdict())
        others = others or (found is not None and route.id != "Options")
    if others:
        raise Denied(405, "unknown-route", f"{method} is not a method of {path}")
    raise Denied(404, "unknown-route", f"page not found: {method} {path} is not part of the Docker API served here")


def refuse(route: Route) -> None:
    """Raise Denied for a route that is not served."""
    if not route.allowed:
        raise Denied(403, "refused-route", f"{route.id} is not available in this VM: {route.reason}")


def _pattern(template: str) -> re.Pattern[str]:
    """A template as an expression over the whole path."""
    pieces = re.split(r"\{(\w+)(?::([^}]*))?\}", template)
    literals, names, expressions = pieces[0::3], pieces[1::3], pieces[2::3]
    text = re.escape(literals[0])
    for name, expression, literal in zip(names, expressions, literals[1:], strict=True):
        text += f"(?P<{name}>{expression or '[^/]+'}){re.escape(literal)}"
    return re.compile(text)


_COMPILED = tuple((_pattern(route.template), route) for route in ROUTES)
