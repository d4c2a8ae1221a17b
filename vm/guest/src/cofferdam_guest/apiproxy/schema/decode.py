"""From the bytes of a body to a checked value, and back to the one spelling that dockerd gets.

dockerd reads JSON with Go's encoding/json: keys in any case (Unicode folding included), repeated keys merge or win late, halves
of surrogate pairs become U+FFFD. Everything of which two readers could make two things is refused; what goes on is written anew.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from cofferdam_guest.apiproxy.schema.kinds import Object, bad
from cofferdam_guest.apiproxy.schema.registry import NEEDS_BODY, SCHEMAS, SETTLE

if TYPE_CHECKING:
    from collections.abc import Collection

DEPTH = 64
"""Deepest nesting of objects and lists; dockerd's own bodies need seven."""

_NESTING = re.compile(r'"(?:[^"\\]+|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)  # without a closing ", to the end: linear
_DIGITS = 20


def decode(data: bytes, schema: str, parameters: Collection[str] = ()) -> Any:
    """Return the checked value of a body.

    Args:
        data: all of the body. Empty means an empty object where dockerd takes it so.
        schema: a key of registry.SCHEMAS.
        parameters: names of the query: dockerode says them in the body once more, where dockerd reads none of them.

    Returns:
        A dict for the schemas of bodies, without null members, proper names only.

    Raises:
        Denied: 400, names the place and the reason; 403 for a field that this VM does not serve.
    """
    if not data and schema not in NEEDS_BODY:
        return {}
    if not data:
        raise bad("", "is empty; JSON is needed here")
    value = _parse(data)
    kind = SCHEMAS[schema]
    if isinstance(kind, Object) and isinstance(value, dict):
        value = {key: one for key, one in value.items() if key not in parameters or kind.near(key)}
    checked = {} if value is None else kind.read(value, "")
    return SETTLE[schema](checked) if schema in SETTLE else checked


def encode(value: Any) -> bytes:
    """Return a checked value as compact JSON in ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _parse(data: bytes) -> Any:
    """One JSON document; the json module itself refuses a byte order mark. Raises Denied."""
    try:
        source = data.decode("utf-8")
    except UnicodeDecodeError:
        raise bad("", "is not UTF-8") from None
    _check_depth(source)
    try:
        return json.loads(source, object_pairs_hook=_pairs, parse_int=_whole, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise bad("", f"is not JSON: {error.msg} at byte {len(source[: error.pos].encode())}") from None


def _check_depth(source: str) -> None:
    depth = 0
    for found in _NESTING.finditer(source):
        depth += 1 if found[1] else -1 if found[2] else 0
        if depth > DEPTH:
            raise bad("", f"is nested deeper than {DEPTH}")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without repeated keys. Different spellings of one field are refused by the schema's exact names."""
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise bad("", f"has the key {twice!a} twice in one object")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise bad("", f"holds a number of {len(digits)} digits")
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise bad("", f"holds {name}, which is not JSON")
