"""Strict JSON with positions, for files that people write: what is wrong is named, with its line and column.

Stricter than RFC 8259 asks: one UTF-8 document without a byte order mark, no repeated keys, no lone surrogates, no number
that a float cannot hold. Lines and columns count from one, columns in characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

SIZE_LIMIT = 1 << 20
DEPTH_LIMIT = 32
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DIGITS_LIMIT = 40
_WORD = re.compile(r"[A-Za-z_$+.-][A-Za-z0-9_$+.-]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"true": True, "false": False, "null": None}
_FOREIGN = {
    "True": "true",
    "False": "false",
    "None": "null",
    "TRUE": "true",
    "FALSE": "false",
    "undefined": "null",
}
_NOT_A_NUMBER = re.compile(r"[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_WIDE = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\x00", "UTF-16 or UTF-32"))


class JsonError(ValueError):
    """The text is not the JSON that is wanted here.

    Args:
        problem: what is wrong, in plain words.
        line: line of the problem, from one.
        column: its column, from one.
    """

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {problem}")
        self.problem, self.line, self.column = problem, line, column


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands.

    Attributes:
        value: `dict[str, Node]`, `list[Node]`, text, number, boolean or None.
        line: line of its first character.
        column: column of its first character.
        keys: of an object: where each of its keys stands, as (line, column).
    """

    value: Any
    line: int
    column: int
    keys: dict[str, tuple[int, int]] | None = None

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def decode(data: bytes) -> str:
    """The text of a file. Raises JsonError for a byte order mark, another encoding, bytes that are no UTF-8, and for size."""
    if len(data) > SIZE_LIMIT:
        raise JsonError(f"the file is larger than {SIZE_LIMIT >> 10} KiB", 1, 1)
    if data.startswith(b"\xef\xbb\xbf"):
        raise JsonError("the file starts with a byte order mark (BOM); save it as UTF-8 without one", 1, 1)
    for head, name in _WIDE:
        if data.startswith(head) or (head == b"\x00" and b"\x00" in data[:4]):
            raise JsonError(f"the file looks like {name}; save it as UTF-8", 1, 1)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8")
        raise JsonError(f"byte 0x{data[error.start]:02x} is not valid UTF-8", *position(good, len(good))) from None


def position(text: str, at: int) -> tuple[int, int]:
    """Line and column of an offset."""
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


def parse(data: bytes | str) -> Node:
    """The document in a file's bytes, or in a text. Raises JsonError."""
    return _Parser(data if isinstance(data, str) else decode(data)).document()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0
        # Line and column are counted on from where they were asked last: once over the text, whatever its size.
        self._seen, self._line, self._start = 0, 1, 0

    def document(self) -> Node:
        self.space()
        if self.at >= len(self.text):
            raise self.error("the file is empty" if not self.text.strip() else "there is no value")
        node = self.value()
        self.space()
        if self.at < len(self.text):
            raise self.error("something follows the end of the document")
        return node

    def here(self) -> tuple[int, int]:
        last = self.text.rfind("\n", self._seen, self.at)
        if last >= 0:
            self._line += self.text.count("\n", self._seen, self.at)
            self._start = last + 1
        self._seen = self.at
        return self._line, self.at - self._start + 1

    def error(self, problem: str, at: int | None = None) -> JsonError:
        return JsonError(problem, *position(self.text, self.at if at is None else at))

    def ends(self, what: str) -> JsonError:
        return self.error(f"the file ends in the middle of {what}; it may be half-written")

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
            self.at += 1
        head = self.text[self.at : self.at + 2]
        if head in ("//", "/*") or head[:1] == "#":
            raise self.error(f"comments ({head if head[:1] == '/' else '#'}) are not allowed in JSON; remove it")

    def value(self) -> Node:
        line, column = self.here()
        character = self.text[self.at : self.at + 1]
        if character == "{":
            return self.object(line, column)
        if character == "[":
            return Node(self.array(), line, column)
        if character == '"':
            return Node(self.string(), line, column)
        if character == "'":
            raise self.error("texts stand in double quotes in JSON, not in single ones")
        if character == "":
            raise self.ends("a value")
        if number := _NUMBER.match(self.text, self.at):
            return Node(self.number(number), line, column)
        return Node(self.word(), line, column)

    def word(self) -> Any:
        found = _WORD.match(self.text, self.at)
        word = found[0] if found else self.text[self.at]
        if word in _WORDS:
            self.at += len(word)
            return _WORDS[word]
        if word in (",", "]", "}"):
            raise self.error(f"a value is missing before `{word}`")
        if self.depth and self.at + len(word) == len(self.text):
            raise self.ends("a value")
        if _NOT_A_NUMBER.fullmatch(word):
            raise self.error(f"{word} is not a number of JSON")
        if word in _FOREIGN:
            raise self.error(f"{word} is not JSON; write {_FOREIGN[word]}")
        raise self.error(f"`{word}` is not a value of JSON; texts stand in double quotes")

    def number(self, found: re.Match[str]) -> int | float:
        text, fraction, exponent = found[0], found[2], found[3]
        following = self.text[found.end() : found.end() + 1]
        if following.isalnum() or following in (".", "_"):
            raise self.error(f"`{text}{following}` is not a number of JSON")
        if len(text) > _DIGITS_LIMIT:
            raise self.error(f"a number of more than {_DIGITS_LIMIT} characters")
        value = float(text) if fraction or exponent else int(text)
        if value in (float("inf"), float("-inf")):
            raise self.error(f"{text} is too large a number")
        self.at = found.end()
        return value

    def enter(self) -> None:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise self.error(f"more than {DEPTH_LIMIT} levels inside each other")
        self.at += 1
        self.space()

    def more(self, end: str, what: str) -> bool:
        """After a member: whether another one follows."""
        self.space()
        character = self.text[self.at : self.at + 1]
        if character == end:
            self.at += 1
            self.depth -= 1
            return False
        if character == ",":
            comma = self.at
            self.at += 1
            self.space()
            if self.text[self.at : self.at + 1] == end:
                raise self.error(f"trailing comma: JSON allows none before `{end}`; remove it", comma)
            return True
        if character == "":
            raise self.ends(what)
        raise self.error(f"`,` or `{end}` is missing before `{character}`")

    def array(self) -> list[Node]:
        self.enter()
        if self.text[self.at : self.at + 1] == "]":
            self.more("]", "a list")
            return []
        items = [self.value()]
        while self.more("]", "a list"):
            items.append(self.value())
        return items

    def object(self, line: int, column: int) -> Node:
        members: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        self.enter()
        if self.text[self.at : self.at + 1] == "}":
            self.more("}", "an object")
            return Node(members, line, column, keys)
        going = True
        while going:
            where, at = self.here(), self.at
            key = self.key()
            if key in members:
                first = keys[key][0]
                raise self.error(f'duplicate key "{key}": it stands in line {first} already', at)
            self.space()
            if self.text[self.at : self.at + 1] != ":":
                raise self.ends("an object") if self.at >= len(self.text) else self.error(f'`:` is missing after "{key}"')
            self.at += 1
            self.space()
            members[key], keys[key] = self.value(), where
            going = self.more("}", "an object")
        return Node(members, line, column, keys)

    def key(self) -> str:
        character = self.text[self.at : self.at + 1]
        if character == '"':
            return self.string()
        if character == "":
            raise self.ends("an object")
        if character == "'":
            raise self.error("keys stand in double quotes in JSON, not in single ones")
        found = _WORD.match(self.text, self.at)
        raise self.error(f"a key in double quotes is wanted, not `{found[0] if found else character}`")

    def string(self) -> str:
        start = self.at
        self.at += 1
        parts: list[str] = []
        while True:
            if plain := _PLAIN.match(self.text, self.at):
                parts.append(plain[0])
                self.at = plain.end()
            character = self.text[self.at : self.at + 1]
            if character == '"':
                self.at += 1
                break
            if character == "":
                raise self.ends("a text")
            if character != "\\":
                name = "a line break" if character in "\r\n" else f"the control character 0x{ord(character):02x}"
                raise self.error(f"{name} inside a text; is the closing quote missing?")
            parts.append(self.escape())
        value = "".join(parts)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise self.error("a text with half a character (lone surrogate)", start)
        return value

    def escape(self) -> str:
        letter = self.text[self.at + 1 : self.at + 2]
        if letter in _ESCAPES and letter:
            self.at += 2
            return _ESCAPES[letter]
        if letter != "u":
            raise self.error(f"`\\{letter}` is not an escape of JSON; a backslash is written `\\\\`")
        unit = self.unit(self.at)
        self.at += 6
        if 0xD800 <= unit < 0xDC00 and self.text[self.at : self.at + 2] == "\\u":
            low = self.unit(self.at)
            if 0xDC00 <= low < 0xE000:
                self.at += 6
                return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
        return chr(unit)

    def unit(self, at: int) -> int:
        found = _HEX.match(self.text, at + 2)
        if found is None:
            raise self.error("`\\u` wants four hexadecimal digits", at)
        return int(found[0], 16)
