import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofferdam_guest.config import jsonlite

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_reads_back_the_same_here_and_by_the_json_module(value):
    text = jsonlite.dumps(value)
    assert jsonlite.loads(text) == value
    assert json.loads(text) == value


@given(VALUES)
def test_reads_what_the_json_module_writes_with_space_around(value):
    assert jsonlite.loads(f" \n{json.dumps(value, indent=2)}\t ") == value


@pytest.mark.parametrize(
    "text", ["", " ", "{", "[1,]", '{"a" 1}', '"abc', "[1", "nul", "1 2", '{"a":NaN}', '"\x01"', "{1:2}", "[1]]"]
)
def test_refuses_what_is_not_json(text):
    with pytest.raises(jsonlite.JsonError):
        jsonlite.loads(text)


def test_refuses_to_write_what_json_cannot_hold():
    with pytest.raises(TypeError):
        jsonlite.dumps({"a": {1, 2}})
    with pytest.raises(ValueError):
        jsonlite.dumps(math.nan)
