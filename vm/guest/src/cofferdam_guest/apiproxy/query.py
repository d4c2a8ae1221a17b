"""Query parameters: only those of the route, each once, each of its kind.

dockerd takes the first of repeated parameters, ignores unknown ones and reads every text but five as true. What a route does not
know is left out here: dockerd never gets a parameter that this table misses, and clients may say what they like beside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.schema.decode import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

_FALSE = frozenset(("", "0", "no", "false", "none"))
_TRUE = frozenset(("1", "yes", "true"))
_INT = re.compile(r"(-?[0-9]{1,19})?")


@dataclass(frozen=True)
class Query:
    """The parameters of one request.

    Attributes:
        pairs: what goes to dockerd, in the client's order, JSON values written anew.
        values: text of the single ones, list of texts of the repeatable ones, decoded value of the JSON ones.
    """

    pairs: list[tuple[str, str]]
    values: dict[str, Any]

    def text(self, name: str) -> str:
        """A single parameter; "" when absent, as dockerd reads it."""
        return str(self.values.get(name, ""))

    def flag(self, name: str, default: bool = False) -> bool:
        """A bool parameter as dockerd reads it."""
        return truth(self.values[name]) if name in self.values else default

    def all(self, name: str) -> list[str]:
        """A repeatable parameter."""
        return list(self.values.get(name, ()))


def check(allowed: Mapping[str, str], pairs: list[tuple[str, str]]) -> Query:
    """Return the checked parameters of a request.

    Args:
        allowed: parameter to kind, of the route.
        pairs: decoded, of the target.

    Raises:
        Denied: 400, names the parameter.
    """
    values: dict[str, Any] = {}
    out: list[tuple[str, str]] = []
    for key, text in pairs:
        kind = allowed.get(key)
        if kind is None:
            # dockerd does not read it and does not get it; dockerode sends its whole body here as well
            continue
        if kind == "list":
            values.setdefault(key, []).append(text)
        elif key in values:
            raise _bad(f'has "{key}" twice')
        else:
            values[key], text = _value(key, kind, text)
        out.append((key, text))
    return Query(out, values)


def truth(text: str) -> bool:
    """Whether dockerd reads a parameter's text as true."""
    return text.lower() not in _FALSE


def _bad(why: str) -> Denied:
    return Denied(400, "query", f"malformed request: the query {why}")


def _value(key: str, kind: str, text: str) -> tuple[Any, str]:
    """The value that rules read and the text that dockerd reads."""
    if kind == "bool" and text.lower() not in _FALSE | _TRUE:
        raise _bad(f'has "{key}={text}"; write 1 or 0')
    if kind == "int" and not _INT.fullmatch(text):
        raise _bad(f'has "{key}={text}"; write a whole number')
    if kind == "filters" or kind.startswith("json:"):
        return _json(key, "Filters" if kind == "filters" else kind.removeprefix("json:"), text)
    return text, text


def _json(key: str, schema: str, text: str) -> tuple[Any, str]:
    """A parameter that holds JSON; empty is absent, as for dockerd, and so is null: docker 20.10 sends it for an empty list."""
    if not text or text.strip() == "null":
        return {}, ""
    try:
        value = decode(text.encode(), schema)
    except Denied as error:
        raise Denied(error.status, error.rule, f'{error.message} (query parameter "{key}")') from None
    return value, encode(value).decode()
