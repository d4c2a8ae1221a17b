"""The kinds of values a request body may hold, each with its own strict reader.

A reader returns the value as rules may rely on it: null members are gone (dockerd reads null as absent), other spellings of a
field carry its proper name, a string where dockerd also takes a list is a list.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from cofferdam_guest.apiproxy.errors import Denied

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number with a fraction",
}


class Kind(Protocol):
    """Reads one value."""

    @property
    def zero(self) -> Any:
        """What a null in a map of this kind is."""

    def read(self, value: Any, where: str) -> Any:
        """Return the value, or raise Denied(400) that names `where` it stands."""


def bad(where: str, why: str) -> Denied:
    """The error of a body that is not what the API takes."""
    return Denied(400, "json-body", f"malformed request: {where or 'the body'} {why}")


def _wrong(value: Any, where: str, wanted: str) -> Denied:
    return bad(where, f"is {_NAMES.get(type(value), 'null')}, not {wanted}")


def text(value: Any, where: str) -> str:
    """A string that dockerd reads as the very same string. Raises Denied."""
    if not isinstance(value, str):
        raise _wrong(value, where, "a string")
    if "\0" in value:
        raise bad(where, "holds a NUL")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise bad(where, "holds half of a surrogate pair")
    return value


@dataclass(frozen=True)
class Str:
    """A string."""

    zero: Any = ""

    def read(self, value: Any, where: str) -> Any:
        """As Kind says."""
        return text(value, where)


@dataclass(frozen=True)
class Bool:
    """true or false."""

    zero: Any = False

    def read(self, value: Any, where: str) -> Any:
        """As Kind says."""
        if not isinstance(value, bool):
            raise _wrong(value, where, "a boolean")
        return value


@dataclass(frozen=True)
class Int:
    """A whole number between two bounds."""

    low: int = -(2**63)
    high: int = 2**63 - 1
    zero: Any = 0

    def read(self, value: Any, where: str) -> Any:
        """As Kind says."""
        if type(value) is not int:
            raise _wrong(value, where, "a whole number")
        if not self.low <= value <= self.high:
            raise bad(where, f"is out of range ({self.low} to {self.high})")
        return value


@dataclass(frozen=True)
class ListOf:
    """A list of one kind; null items are refused, because dockerd turns some into nil pointers."""

    item: Kind
    lengths: tuple[int, ...] = ()
    zero: Any = field(default_factory=list)

    def read(self, value: Any, where: str) -> Any:
        """As Kind says."""
        if not isinstance(value, list):
            raise _wrong(value, where, "a list")
        if self.lengths and len(value) not in self.lengths:
            raise bad(where, f"has {len(value)} items, not {self.lengths[-1]}")
        return [self.item.read(one, f"{where}[{index}]") for index, one in enumerate(value)]


@dataclass(frozen=True)
class Words:
    """A list of strings that may be written as one string; always a list once read."""

    zero: Any = field(default_factory=list)

    def read(self, value: Any, where: str) -> Any:
        """As Kind says."""
        return ListOf(Str()).read([value] if isinstance(value, str) else value, where)


@dataclass(frozen=True)
class MapOf:
    """An object whose keys are free; `nullable` keeps null values as None."""

    item: Kind
    nullable: bool = False
    zero: Any = field(default_factory=dict)

    def read(self, value: Any, where: str) -> Any:
        """As Kind says."""
        if not isinstance(value, dict):
            raise _wrong(value, where, "an object")
        return {text(key, f"a key of {where or 'the body'}"): self._item(one, f"{where}[{key!a}]") for key, one in value.items()}

    def _item(self, value: Any, where: str) -> Any:
        if value is not None:
            return self.item.read(value, where)
        return None if self.nullable else copy(self.item.zero)


@dataclass(frozen=True)
class Either:
    """One of two kinds, told apart by the JSON type of the value."""

    json_type: type
    first: Kind
    second: Kind
    zero: Any = field(default_factory=list)

    def read(self, value: Any, where: str) -> Any:
        """As Kind says."""
        return (self.first if isinstance(value, self.json_type) else self.second).read(value, where)


@dataclass(frozen=True)
class Refused:
    """A field of dockerd that this VM does not serve; null is still nothing."""

    reason: str
    zero: Any = None

    def read(self, value: Any, where: str) -> Any:
        """As Kind says."""
        raise Denied(403, "refused-field", f"{where} is not available in this VM: {self.reason}")


@dataclass(frozen=True)
class Object:
    """An object with known fields.

    Attributes:
        fields: name to kind, all that dockerd reads.
        aliases: other spellings that clients in use send and dockerd, being blind to case, reads; to the proper name.
        ignored: what clients in use send and dockerd does not read: dropped.
        strays: whether unknown keys with a null, which dockerd does not read either, are dropped too.
    """

    fields: Mapping[str, Kind]
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    strays: bool = False
    zero: Any = field(default_factory=dict)

    def read(self, value: Any, where: str) -> Any:
        """As Kind says."""
        if not isinstance(value, dict):
            raise _wrong(value, where, "an object")
        out: dict[str, Any] = {}
        for key, one in value.items():
            name = self.aliases.get(key, key)
            if name != key and name in value and value[name] != one:
                raise bad(where, f'has two values for "{key}" and "{name}", which are one field to dockerd')
            kind = self.fields.get(name)
            if kind is None and key not in self.ignored and not (self.strays and one is None and not self.near(key)):
                raise bad(where, self._unknown(key))
            if kind is not None and one is not None:
                out[name] = kind.read(one, f"{where}.{name}" if where else name)
        return out

    def near(self, key: str) -> str:
        """The field that dockerd would match: in any case, K sign and long s included; "" for none."""
        return next((name for name in self.fields if name.casefold() == key.casefold()), "")

    def _unknown(self, key: str) -> str:
        near = self.near(key)
        return f"has an unknown key {key!a}" + (f'; this one is spelled "{near}"' if near else "")
