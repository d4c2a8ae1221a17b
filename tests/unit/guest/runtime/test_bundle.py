"""Reading the specification and writing the private copy."""

import json

import pytest

from cofferdam_guest.runtime import bundle
from cofferdam_guest.runtime.errors import Refusal


def write(directory, text):
    (directory / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())


def test_what_is_loaded_is_what_is_there(tmp_path, spec):
    write(tmp_path, json.dumps(spec))
    assert bundle.load(str(tmp_path)) == spec


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"x"', "{} {}", '{"a": NaN}', "{'a': 1}", b"\xff\xfe{}", b'{"a": "\xff"}', '{"a": 1,}'],
    ids=repr,
)
def test_what_is_no_specification_is_refused_with_its_path(tmp_path, text):
    write(tmp_path, text)
    with pytest.raises(Refusal, match=r"config\.json") as caught:
        bundle.load(str(tmp_path))
    assert caught.value.rule == "spec"


def test_no_file_no_directory(tmp_path):
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(Refusal, match=r"config\.json"):
            bundle.load(str(directory))
    (tmp_path / "config.json").mkdir()
    with pytest.raises(Refusal):
        bundle.load(str(tmp_path))


def test_the_size_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "_LIMIT", 100)
    write(tmp_path, json.dumps({"a": "x" * 100}))
    with pytest.raises(Refusal):
        bundle.load(str(tmp_path))
    # white space behind the object is cut off unseen: the size alone must decide
    write(tmp_path, "{}" + " " * 99)
    with pytest.raises(Refusal, match="not a container specification"):
        bundle.load(str(tmp_path))
    write(tmp_path, "{}" + " " * 98)
    assert bundle.load(str(tmp_path)) == {}


def test_the_copy_is_the_specification(tmp_path, spec):
    spec["process"]["env"] = ["A=ü\n\u2028", 'B="\\']
    bundle.store(spec, str(tmp_path / "copy"))
    assert json.loads((tmp_path / "copy").read_text()) == spec
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_the_copy_replaces_nothing(tmp_path):
    (tmp_path / "there").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError):
            bundle.store({}, str(tmp_path / name))
    assert (tmp_path / "there").read_text() == "x"
    assert not (tmp_path / "target").exists()


def test_what_json_cannot_hold_is_not_written(tmp_path):
    with pytest.raises(TypeError):
        bundle.store({"a": object()}, str(tmp_path / "copy"))
