import pytest

from cofferdam_guest.below import is_below


@pytest.mark.parametrize(
    ("path", "top", "answer"),
    [
        *[
            ("/a", "/a", True),
            ("/a/b", "/a", True),
            ("/ab", "/a", False),
            ("/", "/a", False),
            ("/a", "/", True),
            ("/", "/", True),
        ],
        *[("/a/b", "/a/", True), ("/ab", "/a/", False), ("pipe:[1]", "/", False)],
    ],
)
def test_is_below(path, top, answer):
    assert is_below(path, top) is answer
