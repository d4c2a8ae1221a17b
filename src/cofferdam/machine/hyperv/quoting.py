"""Values in a PowerShell script: a template can only put in what has been quoted."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePath
from typing import Any

import jinja2

from cofferdam.errors import UsageError

# PowerShell ends a text in single quotes at any of them, and takes two in a row for the second one.
_QUOTES = "'\u2018\u2019\u201a\u201b"


class Literal(str):
    """A piece of PowerShell that means one value, whatever the value is."""

    __slots__ = ()


def quoted(text: str | PurePath) -> Literal:
    """A text as a literal in single quotes, in which nothing else has a meaning.

    Raises:
        UsageError: it holds a control character, a lone surrogate or another character that is none.
        TypeError: it is no text.
    """
    value = str(text)
    if not isinstance(text, str | PurePath):
        raise TypeError(f"{value} is no text")
    for char in value:
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            message = f"{value!r} cannot be written in a script: it holds the character U+{ord(char):04X}"
            raise UsageError(message, hint="Rename it; control characters and the like are not taken.")
    return Literal("'" + "".join(char * 2 if char in _QUOTES else char for char in value) + "'")


def whole(number: int) -> Literal:
    """A whole number, not negative.

    Raises:
        ValueError: it is something else.
    """
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is not a whole number")
    return Literal(number)


def comment(text: str) -> Literal:
    """A text for a comment that ends with its line.

    Raises:
        UsageError: see `quoted`.
    """
    quoted(text)
    return Literal(text)


def _only_literals(value: Any) -> Literal:
    if not isinstance(value, Literal):
        raise TypeError(f"{value!r} is put into a script without quoting")
    return value


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    autoescape=False,  # noqa: S701 - not HTML; what has not been quoted is refused
    finalize=_only_literals,
)
_ENVIRONMENT.filters.update(quoted=quoted, whole=whole, comment=comment)


def render(template: str, /, **values: object) -> str:
    """A script from the template of that name.

    Raises:
        UsageError: a value cannot be quoted.
        jinja2.UndefinedError, TypeError: the template names a value that is not given, or puts one in without quoting.
    """
    return _ENVIRONMENT.get_template(f"{template}.ps1.j2").render(**values)
