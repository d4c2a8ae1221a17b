"""Holds a parsed settings file against the table of keys: unknown keys are warned about, wrong types are errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from cofferdam_guest.config.adminkeys import BOOLEAN, DESKTOP, FOLDERS, INTEGER, KEYS, TEXT, TEXTS, UNENFORCED, Key, tree
from cofferdam_guest.config.findings import ERROR, NOTE, WARNING, Finding
from cofferdam_guest.config.positions import Node

_NAMES = {BOOLEAN: "true or false", INTEGER: "a whole number", TEXT: "a text", TEXTS: "a list of texts", FOLDERS: "a list"}
_TYPES: dict[str, type] = {BOOLEAN: bool, INTEGER: int, TEXT: str, TEXTS: list, FOLDERS: list}
_TOLD = {DESKTOP: (NOTE, "not applicable here"), UNENFORCED: (WARNING, "not enforced here")}


class Shape:
    """A settings file by the table.

    Attributes:
        values: dotted path -> node, of the keys that are known and of the right type.
        findings: what was wrong.
    """

    def __init__(self, document: Node) -> None:
        self.values: dict[str, Node] = {}
        self.findings: list[Finding] = []
        self._object(document, tree(), "")

    def add(self, level: str, key: str, message: str, node: Node) -> None:
        """Note a finding at a node."""
        self.findings.append(Finding(level, key, message, node.line, node.column))

    def _object(self, node: Node, known: dict[str, dict[str, object] | Key], path: str) -> None:
        if not isinstance(node.value, dict):
            self.add(ERROR, path, f"{'' if path else 'the file '}must be an object ({{…}}), not {_kind_of(node)}", node)
            return
        seen: dict[str, str] = {}
        for given, value in node.value.items():
            line, column = (node.keys or {}).get(given, (value.line, value.column))
            name = self._name(given, known, path, line, column)
            if not name:
                continue
            full = f"{path}.{name}" if path else name
            if name in seen:
                self.findings.append(Finding(ERROR, full, f'stands here twice: as "{seen[name]}" and as "{given}"', line, column))
                continue
            seen[name] = given
            self._member(full, known[name], value, (line, column))

    def _name(self, given: str, known: dict[str, dict[str, object] | Key], path: str, line: int, column: int) -> str:
        """The table's name of a key; Docker Desktop reads them without regard to case, so that another spelling still counts."""
        if given in known:
            return given
        for name in known:
            if name.lower() == given.lower():
                self.findings.append(Finding(WARNING, f"{path}.{name}".lstrip("."), f'written "{given}"', line, column))
                return name
        full = f"{path}.{given}".lstrip(".")
        self.findings.append(Finding(WARNING, full, f"unknown key, it has no effect{_nearest(given, path, known)}", line, column))
        return ""

    def _member(self, path: str, known: dict[str, object] | Key, node: Node, key: tuple[int, int]) -> None:
        if not isinstance(known, Key):
            self._object(node, known, path)  # type: ignore[arg-type]
            return
        problem = _problem(known, node)
        if problem is not None:
            wrong, message = problem
            self.add(ERROR, path, message, wrong)
            return
        self.values[path] = node
        if known.status in _TOLD and not path.endswith(".locked"):
            level, text = _TOLD[known.status]
            self.findings.append(Finding(level, path, f"{text}: {known.note}", *key))


def _problem(key: Key, node: Node) -> tuple[Node, str] | None:
    """Why a value is not what its key wants, and where."""
    value = node.value
    if not isinstance(value, _TYPES[key.kind]) or (key.kind == INTEGER and isinstance(value, bool)):
        return node, f"must be {_NAMES[key.kind]}, not {_kind_of(node)}"
    if key.choices and value not in key.choices:
        return node, f'"{value}" is not one of {", ".join(key.choices)}'
    return next(_items(key, node), None)


def _items(key: Key, node: Node) -> Iterator[tuple[Node, str]]:
    for item in node.value if isinstance(node.value, list) else ():
        if key.kind == TEXTS and not isinstance(item.value, str):
            yield item, f"must be a list of texts; this is {_kind_of(item)}"
        if key.kind == FOLDERS:
            yield from _folder(item)


def _folder(node: Node) -> Iterator[tuple[Node, str]]:
    members = node.value
    if not isinstance(members, dict) or not isinstance(getattr(members.get("path"), "value", None), str):
        yield node, 'must be a list of {"path": …, "sharedByDefault": …}'
    elif "sharedByDefault" in members and not isinstance(members["sharedByDefault"].value, bool):
        yield members["sharedByDefault"], "sharedByDefault must be true or false"


def _kind_of(node: Node) -> str:
    value = node.value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return f'the text "{value}"' if isinstance(value, str) else f"the number {value}"


def _nearest(given: str, path: str, known: dict[str, dict[str, object] | Key]) -> str:
    names = {name.lower(): name for name in known}
    if near := difflib.get_close_matches(given.lower(), list(names), 1, cutoff=0.6):
        return f'; did you mean "{names[near[0]]}"?'
    # In the wrong place: the key itself exists, or what its last part names does.
    for key in KEYS:
        parts = key.path.split(".")
        if given in parts:
            return f'; there is "{".".join(parts[: parts.index(given) + 1])}"'
    return f'; known in "{path}": {", ".join(known)}' if path else ""
