"""What dockerd reads in a JSON body: Go's encoding/json, tolerant where it is tolerant, on a parser of its own.

Keys match in any case, K sign and long s included; a later key wins or merges into an earlier one; lists merge by index; bytes
that are no UTF-8 and halves of surrogate pairs become U+FFFD. Types are not known here: null is taken for a pointer's.
"""

from __future__ import annotations

import re
from typing import Any

MAPS = frozenset(
    [
        "annotations",
        "attrs",
        "auxiliaryaddresses",
        "buildargs",
        "driveropts",
        "endpointsconfig",
        "exposedports",
        "filters",
        "labels",
        "options",
        "portbindings",
        "storageopt",
        "sysctls",
        "tmpfs",
        "volumes",
    ]
)
"""Fields whose keys are data; `Config` is one too when it is an object (of LogConfig)."""
_TOKEN = re.compile(r'[ \t\r\n]*(?:([{}\[\],:])|"((?:[^"\\]|\\.)*)"|([^\s{}\[\],:"]+))', re.DOTALL)
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"true": True, "false": False, "null": None}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class NotJson(ValueError):
    """dockerd would answer with an error."""


def fold(key: str) -> str:
    """A key as it is matched with a field."""
    return key.lower().replace("\u017f", "s").replace("\u212a", "k")


def read(data: bytes, field: str = "") -> Any:
    """The value of a body, or of a `field` that holds JSON; keys of structs folded. Raises NotJson."""
    text = data.decode("utf-8", "replace")
    parser = _Parser(text)
    value = parser.value({}, field)
    if text[parser.at :].strip(" \t\r\n"):
        raise NotJson("more than one document")
    return value


def folded(value: Any, field: str = "") -> Any:
    """A value that was read by others, with its keys as `read` has them."""
    if isinstance(value, list):
        return [folded(one, "" if field == "config" else field) for one in value]
    if not isinstance(value, dict):
        return value
    as_map = _is_map(field)
    return {key if as_map else fold(key): folded(one, "" if as_map else fold(key)) for key, one in value.items()}


def _is_map(field: str) -> bool:
    return field in MAPS or field == "config"


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def _next(self) -> re.Match[str]:
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise NotJson(f"at {self.at}")
        self.at = found.end()
        return found

    def _peek(self) -> str | None:
        found = _TOKEN.match(self.text, self.at)
        return found[1] if found else None

    def value(self, old: Any, field: str) -> Any:
        """One value, read into what an earlier key of the same field left."""
        token = self._next()
        if token[1] == "{":
            return self._object(old if isinstance(old, dict) else {}, field)
        if token[1] == "[":
            return self._list(old if isinstance(old, list) else [], field)
        if token[2] is not None:
            return _string(token[2])
        if token[3] in _WORDS:
            return _WORDS[token[3]]
        number = _NUMBER.fullmatch(token[3] or "")
        if number is None:
            raise NotJson(f"at {self.at}")
        return float(number[0]) if number[1] or number[2] else int(number[0])

    def _object(self, into: dict[str, Any], field: str) -> dict[str, Any]:
        into, as_map = dict(into), _is_map(field)
        if self._peek() == "}":
            self._next()
            return into
        while True:
            key = self._next()
            if key[2] is None or self._next()[1] != ":":
                raise NotJson(f"at {self.at}")
            name = _string(key[2]) if as_map else fold(_string(key[2]))
            # values of a map are read into new ones
            into[name] = self.value(None if as_map else into.get(name), "" if as_map else name)
            if (end := self._next()[1]) == "}":
                return into
            if end != ",":
                raise NotJson(f"at {self.at}")

    def _list(self, old: list[Any], field: str) -> list[Any]:
        out: list[Any] = []
        if self._peek() == "]":
            self._next()
            return out
        while True:
            out.append(self.value(old[len(out)] if len(out) < len(old) else None, "" if field == "config" else field))
            if (end := self._next()[1]) == "]":
                return out
            if end != ",":
                raise NotJson(f"at {self.at}")


def _string(raw: str) -> str:
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _SHORT.get(found[2], found[2]), raw)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
