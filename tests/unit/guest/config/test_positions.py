"""Strict JSON: what the standard parser reads is read the same; each mistake people make is named at its place."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofferdam_guest.config.positions import DEPTH_LIMIT, SIZE_LIMIT, JsonError, parse

NUMBERS = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_good_documents_read_as_the_json_module_reads_them(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert parse(text.encode()).plain() == json.loads(text)


@given(st.text(alphabet="{}[]\",:\\ \n0123456789.eE+-truefalsn/*#u'aNI\ufeff\x01", max_size=40))
def test_whatever_it_is_it_is_read_or_refused_at_a_place_within(text):
    try:
        value = parse(text).plain()
    except JsonError as error:
        lines = text.split("\n")
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    else:
        assert value == json.loads(text)


@given(st.binary(max_size=40))
def test_bytes_are_read_or_refused(data):
    with contextlib.suppress(JsonError):
        parse(data)


MISTAKES = {
    "empty": (b"", 1, 1, "empty"),
    "blank": (b" \n ", 2, 2, "empty"),
    "byte order mark": (b"\xef\xbb\xbf{}", 1, 1, "byte order mark"),
    "UTF-16 with mark": ("{}".encode("utf-16"), 1, 1, "UTF-16"),
    "UTF-16 without mark": ("{}".encode("utf-16-be"), 1, 1, "UTF-16"),
    "invalid UTF-8": (b'{\n "a": "\xc3\x28"}', 2, 8, "0xc3 is not valid UTF-8"),
    "line comment": (b'{\n  // why\n  "a": 1}', 2, 3, r"comments \(//\)"),
    "block comment": (b'{"a": /* why */ 1}', 1, 7, r"comments \(/\*\)"),
    "hash comment": (b"# why\n{}", 1, 1, r"comments \(#\)"),
    "comment at the end": (b"{}\n// end\n", 2, 1, "comments"),
    "trailing comma in an object": (b'{"a": 1,\n}', 1, 8, "trailing comma"),
    "trailing comma in a list": (b'{"a": [1,\n 2, ]}', 2, 3, "trailing comma"),
    "comment after a last comma": (b'{"a": 1, // why\n}', 1, 10, "comments"),
    "missing comma": (b'{"a": 1\n "b": 2}', 2, 2, "`,` or `}` is missing"),
    "missing colon": (b'{"a" 1}', 1, 6, '`:` is missing after "a"'),
    "missing value": (b'{"a": }', 1, 7, "a value is missing before `}`"),
    "duplicate key": (b'{"a": 1,\n "b": 2,\n "a": 3}', 3, 2, 'duplicate key "a": it stands in line 1'),
    "duplicate key by escape": (b'{"a": 1, "\\u0061": 3}', 1, 10, "duplicate key"),
    "NaN": (b'{"a": NaN}', 1, 7, "NaN is not a number"),
    "Infinity": (b"[Infinity]", 1, 2, "Infinity is not a number"),
    "minus Infinity": (b"[-Infinity]", 1, 2, "-Infinity is not a number"),
    "too large": (b"[1e999]", 1, 2, "too large"),
    "too many digits": (b"[" + b"1" * 41 + b"]", 1, 2, "more than 40"),
    "leading zero": (b"[01]", 1, 2, "`01` is not a number"),
    "plus": (b"[+1]", 1, 2, "not a value"),
    "hexadecimal": (b"[0x1f]", 1, 2, "`0x` is not a number"),
    "single quotes": (b"{'a': 1}", 1, 2, "double quotes"),
    "single quoted value": (b"{\"a\": 'b'}", 1, 7, "double quotes"),
    "no quotes": (b"{a: 1}", 1, 2, "double quotes"),
    "Python's true": (b'{"a": True}', 1, 7, "write true"),
    "Python's none": (b'{"a": None}', 1, 7, "write null"),
    "half surrogate": (b'["\\ud800"]', 1, 2, "lone surrogate"),
    "surrogates in the wrong order": (b'["\\ude00\\ud83d"]', 1, 2, "lone surrogate"),
    "control character": (b'["a\x01"]', 1, 4, "control character 0x01"),
    "line break in a text": (b'{"a": "b\n}', 1, 9, "line break inside a text"),
    "bad escape": (b'["C:\\Users"]', 1, 5, "not an escape"),
    "bad unicode escape": (b'["\\u12g4"]', 1, 3, "four hexadecimal digits"),
    "half-written object": (b'{"a": {"b": 1', 1, 14, "half-written"),
    "half-written word": (b'{"a": tru', 1, 7, "half-written"),
    "half-written text": (b'{"a": "b', 1, 9, "half-written"),
    "half-written key": (b'{"a": 1, ', 1, 10, "half-written"),
    "half-written list": (b"[1,", 1, 4, "half-written"),
    "two documents": (b"{} {}", 1, 4, "follows the end"),
    "character before": ('{"ä": 1 x}'.encode(), 1, 9, "is missing before `x`"),
    "too deep": (b"[" * 40, 1, DEPTH_LIMIT + 1, "levels"),
    "too long": (b"[" + b" " * SIZE_LIMIT + b"]", 1, 1, "larger than 1024 KiB"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line_and_column(name):
    data, line, column, says = MISTAKES[name]
    with pytest.raises(JsonError, match=says) as error:
        parse(data)
    assert (error.value.line, error.value.column) == (line, column)


def test_every_value_and_key_knows_its_place():
    node = parse(b'{\n  "a": [1,\n    {"b": null}],\n\t"c": "x"\n}')
    assert (node.line, node.column) == (1, 1)
    assert node.keys == {"a": (2, 3), "c": (4, 2)}
    inner = node.value["a"].value[1]
    assert (inner.line, inner.column, inner.keys) == (3, 5, {"b": (3, 6)})
    assert (node.value["c"].line, node.value["c"].column) == (4, 7)


def test_the_deepest_document_that_is_allowed_is_read():
    assert parse(b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT).plain() is not None


def test_a_long_file_takes_time_by_its_length_only():
    # One value a line: a position asked for at each of them must not go over the text from its start again.
    assert len(parse(b"[" + b",\n".join([b"1"] * 100_000) + b"]").plain()) == 100_000
