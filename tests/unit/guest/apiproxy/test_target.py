"""Request targets: what two readers could read differently is refused, all else has one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.target import LIMIT, Target, forwarded, parse


@pytest.mark.parametrize(
    ("raw", "path", "version", "query"),
    [
        (b"/containers/json", "/containers/json", None, []),
        (b"/v1.24/containers/json", "/containers/json", "1.24", []),
        (b"/v1.41/info?", "/info", "1.41", []),
        (b"/v1.99/info", "/info", "1.99", []),
        (b"/_ping", "/_ping", None, []),
        (b"/images/registry.example.com:5000/a/b/json", "/images/registry.example.com:5000/a/b/json", None, []),
        (b"/images/a%40sha256%3Aff/json", "/images/a@sha256:ff/json", None, []),
        (b"/images/h%3A5000%2fa%2Fb%3At/json", "/images/h:5000/a/b:t/json", None, []),
        (b"/v1.45/distribution/a%2Fb/json", "/distribution/a/b/json", "1.45", []),
        (b"/%63ontainers/json", "/containers/json", None, []),
        (b"/containers/x/archive?path=%2Fa+b%2Bc%C3%A9", "/containers/x/archive", None, [("path", "/a b+cé")]),
        (b"/images/get?names=a&names=b&&flag", "/images/get", None, [("names", "a"), ("names", "b"), ("flag", "")]),
        (b"/volumes/v1.45", "/volumes/v1.45", None, []),
    ],
)
def test_a_plain_target_is_read(raw, path, version, query):
    assert parse(raw) == Target(path, version, query)


P01 = (
    "v9",
    "v1",
    "v1.4",
    "v1.047",
    "v1.47.",
    "v1..47",
    "v.1.47",
    "V1.47",
    "v1.470",
    "v2.00",
    "v",
    "v1.23",
    "v1.00",
    "v01.47",
    "v1.4_",
)
P02 = (
    *(
        "/containers%2Fjson",
        "/%2e%2e/json",
        "/%252e/json",
        "//containers/json",
        "/./json",
        "/x/../containers/json",
        "/containers/json/",
    ),
    *(
        "/containers/json;a=b",
        "/containers/json%3Ba=b",
        "/a\\b",
        "/a%5cb",
        "/a%5Cb",
        "/a%2F",
        "/images%2Fx/json",
        "/images/x/json%2F",
        "/images/x%2F/json",
        "/images/%2Fx/json",
        "/images/x%2F..%2F..%2Fcontainers/json",
        "/images/x%2F%2e%2e/json",
        "/images/x%252Fy/json",
        "/images/x/y%2Fz/json",
        "/x/images/y%2Fz/json",
        "/containers/y%2Fz/json",
        "/a%2e",
        "/a%25",
        "/",
        "/v1.45/",
        "/v1.45",
    ),
    *(
        "/v1.45//info",
        "/a%00",
        "/a%0a",
        "/a%7f",
        "/a%C3%A9",
        "/a%20b",
        "/a%zz",
        "/a%4",
        "/a%",
        "/a%3Fb",
        "/a%23b",
        "/a#b",
        "/a?b#c",
    ),
)
P03 = ("http://x/containers/json", "x:80", "*", "", "containers/json", "?a=b")


@pytest.mark.parametrize("version", P01)
def test_p01_only_one_spelling_is_a_version(version):
    """Refused, or (for a segment that dockerd does not take for a version either) no route."""
    if version == "v1.4_":
        assert parse(b"/v1.4_/info").version is None
        return
    with pytest.raises(Denied) as caught:
        parse(f"/{version}/containers/json".encode())
    assert caught.value.status == 400


@pytest.mark.parametrize("raw", [*P02, *P03])
def test_p02_p03_ambiguous_targets_are_refused(raw):
    with pytest.raises(Denied) as caught:
        parse(raw.encode())
    assert caught.value.status == 400


@pytest.mark.parametrize("raw", [b"/\xc3\xa9", b"/a\x00", b"/a b", b"/a\tb", b"/a\r", b"/a?b=\xc3\xa9", b"/a?b=\x7f"])
def test_bytes_outside_of_printable_ascii_are_refused(raw):
    with pytest.raises(Denied, match="control, blank or non-ASCII"):
        parse(raw)


@pytest.mark.parametrize("query", ["a=1;b=2", "a=%", "a=%4", "a=%gg", "a=%00", "a=%ff", "a=%ed%a0%80", "%00=1", "%ff"])
def test_p02_ambiguous_queries_are_refused(query):
    with pytest.raises(Denied) as caught:
        parse(f"/info?{query}".encode())
    assert caught.value.status == 400


def test_an_endless_target_is_refused():
    with pytest.raises(Denied, match="longer than"):
        parse(b"/info?a=" + b"x" * LIMIT)


def test_what_is_forwarded_has_one_spelling():
    one = parse(b"/v1.45/images/a%40b/%6ason?b=%2f%2F+&c&d=%26%3d")
    assert forwarded(one) == "/v1.45/images/a@b/json?b=%2F%2F%20&c=&d=%26%3D"


def test_a_target_without_a_version_is_forwarded_without_one():
    assert forwarded(parse(b"/info")) == "/info"


_SEGMENT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="/\\%;?#"), min_size=1).filter(
    lambda text: text not in (".", "..") and not text.lower().startswith("v")
)
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.lists(_SEGMENT, min_size=1), st.sampled_from([None, "1.24", "1.45"]), st.lists(st.tuples(_TEXT.filter(bool), _TEXT)))
def test_reading_what_was_forwarded_gives_the_same(segments, version, query):
    target = Target("/" + "/".join(segments), version, query)
    assert parse(forwarded(target).encode()) == target


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_stay_what_they_are(raw):
    try:
        target = parse(b"/" + raw)
    except Denied:
        return
    assert parse(forwarded(target).encode()) == target
