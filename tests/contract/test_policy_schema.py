"""What is published about policies is what the guest reads: schema, reference, examples; and the parts of the guest fit each other.

`COFFERDAM_GOLDEN=write` writes the schema and the reference's tables anew.
"""

from __future__ import annotations

import json
import os

import pytest

from cofferdam.guestconfig import admin, adminkeys, daemonoptions
from cofferdam.paths import ROOT
from cofferdam.policy import profile_policy, read_policy
from cofferdam.policyschema import documented, schema
from cofferdam.profile import load_profile, profile_names

SCHEMA, REFERENCE = ROOT / "docs/admin-settings.schema.json", ROOT / "docs/policy.md"
EXAMPLES = sorted((ROOT / "profiles/policies").glob("*.json"))


def test_the_published_schema_is_the_tables():
    made = json.dumps(schema(), indent=2) + "\n"
    if os.environ.get("COFFERDAM_GOLDEN") == "write":
        SCHEMA.write_text(made, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == made


def test_the_references_tables_are_the_tables():
    text = REFERENCE.read_text(encoding="utf-8")
    made = documented(text)
    if os.environ.get("COFFERDAM_GOLDEN") == "write":
        REFERENCE.write_text(made, encoding="utf-8")
    assert REFERENCE.read_text(encoding="utf-8") == made


def test_every_key_and_every_overridden_option_is_in_the_reference():
    text = REFERENCE.read_text(encoding="utf-8")
    names = {key.path for key in adminkeys.KEYS}
    missing = {path for path in names if f"`{path}`" not in text and f"`{path.rpartition('.')[0]}`" not in text}
    assert missing == set()
    assert {option for option in daemonoptions.OVERRIDDEN if f"`{option}`" not in text} == set()


def test_the_reference_lists_the_commands():
    from cofferdam_guest.config import commandnames

    words = set(
        REFERENCE.read_text(encoding="utf-8").replace("`", " ").replace(",", " ").replace(":", " ").replace(".", " ").split()
    )
    assert {*commandnames.NAMES, *commandnames.GROUPS, *commandnames.UNSUPPORTED, *commandnames.CLIENT_ONLY} <= words


def accepted(rule: dict, value: object) -> bool:
    """JSON Schema as far as this schema goes."""
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    if not isinstance(value, kinds[rule["type"]]) or (rule["type"] == "integer" and isinstance(value, bool)):
        return False
    if "enum" in rule and value not in rule["enum"]:
        return False
    if isinstance(value, dict):
        properties = rule.get("properties", {})
        return all(accepted(properties[key], inner) for key, inner in value.items() if key in properties) and all(
            key in value for key in rule.get("required", ())
        )
    return all(accepted(rule["items"], item) for item in value) if isinstance(value, list) else True


GOOD = {
    adminkeys.BOOLEAN: True,
    adminkeys.INTEGER: 2,
    adminkeys.TEXT: "",
    adminkeys.TEXTS: [],
    adminkeys.FOLDERS: [{"path": "/a"}],
}
VALUES = [True, 2, "", "x", [], ["docker"], [1], [{"path": "/a"}], [{"x": 1}], {}, None, 1.5]


@pytest.mark.parametrize("key", adminkeys.KEYS, ids=lambda key: key.path)
def test_schema_and_parser_agree_on_types(key):
    """What the schema refuses the parser refuses; the parser knows more (names, paths, hosts) and may refuse more."""
    for value in (*VALUES, *key.choices, GOOD[key.kind]):
        document: object = value
        for part in reversed(key.path.split(".")):
            document = {part: document}
        errors = admin.read(json.dumps(document).encode()).errors
        if not accepted(schema(), document):
            assert errors, value
        elif value in key.choices or (not key.choices and value == GOOD[key.kind]):
            assert not errors, value


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_good_without_a_warning(path):
    assert read_policy(path).lines() == []
    assert accepted(schema(), json.loads(path.read_text(encoding="utf-8")))
    assert path.name == "default.json" or path.name in REFERENCE.read_text(encoding="utf-8")


def test_the_default_policy_has_isolation_on_and_nothing_else():
    document = json.loads((ROOT / "profiles/policies/default.json").read_text(encoding="utf-8"))
    assert document == {"configurationFileVersion": 2, "enhancedContainerIsolation": {"locked": False, "value": True}}


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_has_a_good_policy(name):
    assert profile_policy(load_profile(name)).found.settings is not None
