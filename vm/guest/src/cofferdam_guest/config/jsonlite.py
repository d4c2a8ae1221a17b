"""JSON by the C half of the standard library's json module alone.

`import json` costs a third of the wrapper's start because it brings `re`. The C scanner and encoder do all the work;
should an interpreter lack them or change them, the json module itself is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SPACE = " \t\n\r"


class JsonError(ValueError):
    """The text is not JSON."""


class _Scanner:
    """What _json.make_scanner wants to know."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> Any:
        raise JsonError(f"{name} is not JSON")


def loads(text: str) -> Any:
    """Return the value of one JSON document. Raises JsonError."""
    try:
        from _json import make_scanner

        value, end = make_scanner(_Scanner)(text, len(text) - len(text.lstrip(_SPACE)))  # type: ignore[arg-type]
        if not text[end:].strip(_SPACE):
            return value
    except JsonError:
        raise
    except (ImportError, StopIteration, ValueError, SystemError):
        pass  # the C half alone cannot word an error; the whole module below does
    return _slow_loads(text)


def dumps(value: Any) -> str:
    """Return `value` as compact JSON, ASCII only. Raises TypeError for what JSON cannot hold."""
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        import json

        return json.dumps(value, separators=(",", ":"))
    encoder = make_encoder({}, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)
    return "".join(encoder(value, 0))


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _slow_loads(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise JsonError(str(error)) from error
