"""The JSON Schema of policies and the table of their keys, both made from the one table that the guest reads them by."""

from __future__ import annotations

from typing import Any

from cofferdam.guestconfig import adminkeys, daemonoptions

_TYPES: dict[str, dict[str, Any]] = {
    adminkeys.BOOLEAN: {"type": "boolean"},
    adminkeys.INTEGER: {"type": "integer"},
    adminkeys.TEXT: {"type": "string"},
    adminkeys.TEXTS: {"type": "array", "items": {"type": "string"}},
    adminkeys.FOLDERS: {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "sharedByDefault": {"type": "boolean"}},
            "required": ["path"],
        },
    },
}
_ISOLATION = "enhancedContainerIsolation"


def schema() -> dict[str, Any]:
    """The JSON Schema. Unknown keys are left open, as they are warnings and no errors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "admin-settings.json for Cofferdam",
        "description": "Docker Desktop's keys for administrators and the section `cofferdam`; docs/policy.md explains each.",
        **_object(adminkeys.tree()),
    }


def _object(members: dict[str, Any]) -> dict[str, Any]:
    properties = {
        name: _key(member) if isinstance(member, adminkeys.Key) else _object(member) for name, member in members.items()
    }
    return {"type": "object", "properties": properties}


def _key(key: adminkeys.Key) -> dict[str, Any]:
    choices = {"enum": list(key.choices)} if key.choices else {}
    return {**_TYPES[key.kind], **choices, "description": f"{key.status}: {key.note}".replace("`", "")}


def documented(text: str) -> str:
    """A text of documentation with the tables between its marks made anew.

    Args:
        text: docs/policy.md.

    Raises:
        ValueError: a mark is missing.
    """
    for name, rows in (("keys", _key_rows()), ("overridden options", _overridden_rows())):
        begin, end = f"<!-- {name}: made by cofferdam.policyschema -->", f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        _, mark, tail = rest.partition(end)
        if not mark:
            raise ValueError(f"`{begin}` or its end is missing")
        text = "\n".join([f"{head}{begin}", *rows, f"{end}{tail}"])
    return text


def _key_rows() -> list[str]:
    single = {key.path.removesuffix(".value") for key in adminkeys.KEYS if key.path.endswith(".value")} - {_ISOLATION}
    rows = ["| key | type | here | what it does, or why nothing |", "| --- | --- | --- | --- |"]
    for key in adminkeys.KEYS:
        setting, _, last = key.path.rpartition(".")
        if setting not in single:
            rows.append(f"| `{key.path}` | {_kind(key)} | {key.status} | {key.note} |")
        elif last == "value":
            rows.append(f"| `{setting}` | locked and value: {_kind(key)} | {key.status} | {key.note} |")
    return rows


def _overridden_rows() -> list[str]:
    reasons: dict[str, list[str]] = {}
    for option, why in {**daemonoptions.OVERRIDDEN, **daemonoptions.NESTED}.items():
        reasons.setdefault(why, []).append(f"`{option}`")
    return ["| options | why |", "| --- | --- |", *(f"| {', '.join(options)} | {why} |" for why, options in reasons.items())]


def _kind(key: adminkeys.Key) -> str:
    return " or ".join(f"`{choice}`" for choice in key.choices) or key.kind
