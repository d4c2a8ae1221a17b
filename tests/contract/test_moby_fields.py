"""The schemas of request bodies against the Go types that dockerd reads them into."""

from __future__ import annotations

from pathlib import Path

import pytest

from cofferdam_guest.apiproxy.schema.container import _LEGACY
from cofferdam_guest.apiproxy.schema.kinds import Bool, Either, Int, Kind, ListOf, MapOf, Object, Refused, Str, Words
from cofferdam_guest.apiproxy.schema.registry import SCHEMAS

LIST = Path(__file__).parent / "moby-fields.txt"
RANGES = {"uint16": (0, 2**16 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1), "uint": (0, 2**32 - 1)}
SIGNED = (-(2**63), 2**63 - 1)


def of_dockerd() -> dict[str, str]:
    """Path to type; what is below a refused field is left out."""
    lines = (line.split(" ") for line in LIST.read_text().splitlines() if not line.startswith("#"))
    return {path: _type(go) for path, go, _ in lines if ".ClusterVolumeSpec" not in path}


def _type(go: str) -> str:
    return str(RANGES.get(go, SIGNED)) if "int" in go else go


def of_schemas() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, kind in SCHEMAS.items():
        if name not in ("Filters", "Nothing"):
            _walk(name, kind, found)
    return {path: kind for path, kind in found.items() if path.removeprefix("ContainerCreate.") not in _LEGACY}


def _walk(path: str, kind: Kind, found: dict[str, str]) -> None:
    match kind:
        case Object(fields=fields) if fields:
            for name, one in fields.items():
                _walk(f"{path}.{name}", one, found)
        case Object():
            found[path] = "empty"
        case ListOf(item=item, lengths=lengths):
            _walk(f"{path}[{max(lengths) if lengths else ''}]", item, found)
        case MapOf(item=item):
            _walk(f"{path}{{}}", item, found)
        case Int(low=low, high=high):
            found[path] = str((low, high))
        case Refused():
            pass
        case _:
            found[path] = {Str: "string", Bool: "bool", Words: "words"}[type(kind)]


def test_the_walk_knows_every_kind():
    kinds = (Str, Bool, Int, ListOf, Words, MapOf, Either, Refused, Object)
    assert all(isinstance(kind, kinds) for kind in SCHEMAS.values())


def test_every_field_of_dockerd_is_in_the_schemas_with_its_type():
    ours = of_schemas()
    assert {path: kind for path, kind in of_dockerd().items() if ours.get(path) != kind} == {}


def test_the_schemas_hold_no_field_that_dockerd_does_not_read():
    assert of_schemas().keys() - of_dockerd().keys() == set()


def _objects(path: str, kind: Kind) -> list[tuple[str, Object]]:
    if isinstance(kind, Object):
        return [(path, kind), *(found for name, one in kind.fields.items() for found in _objects(f"{path}.{name}", one))]
    return _objects(path, kind.item) if isinstance(kind, (ListOf, MapOf)) else []


@pytest.mark.parametrize(("path", "kind"), [one for name, kind in SCHEMAS.items() for one in _objects(name, kind)])
def test_dropped_keys_match_no_field_in_any_case_and_aliases_match_theirs(path, kind):
    """dockerd reads keys in any case: a dropped key that it would read would be a hole."""
    names = {name.casefold() for name in kind.fields}
    if path == "ContainerCreate":  # dockerd embeds HostConfig there
        names |= {name.casefold() for name in kind.fields["HostConfig"].fields}
    assert [name for name in kind.ignored if name.casefold() in names] == []
    assert [
        (one, name) for one, name in kind.aliases.items() if one.casefold() != name.casefold() or name not in kind.fields
    ] == []
