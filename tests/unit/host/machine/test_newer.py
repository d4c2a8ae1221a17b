"""Which image is one to update to."""

from __future__ import annotations

import pytest

from cofferdam.errors import UsageError
from cofferdam.machine.imageref import ImageRef
from cofferdam.machine.newer import DowngradeError, order, something_to_do


def ref(version: str = "", directory: str = "", profile: str = "default") -> ImageRef:
    return ImageRef(directory=directory or f"/images/{version}", profile=profile, version=version, installed=bool(version))


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.2.0", "1.2.1"),
        ("1.9.0", "1.10.0"),
        ("1.2", "1.2.1"),
        ("1.2.0-rc.1", "1.2.0"),
        ("1.2.0-alpha.1", "1.2.0-beta.1"),
        ("1.2.0.dev3", "1.2.0-rc.1"),
        ("1.2.0", "1.2.0+2"),
        ("9.9.9", "2026.11"),
    ],
)
def test_versions_have_an_order(older, newer):
    assert (order(older, newer), order(newer, older), order(newer, newer)) == (-1, 1, 0)
    assert something_to_do(ref(older), ref(newer))
    with pytest.raises(DowngradeError, match="is older than") as error:
        something_to_do(ref(newer), ref(older))
    assert "--allow-downgrade" in error.value.hint
    assert something_to_do(ref(newer), ref(older), allow_downgrade=True)


def test_what_has_no_order_is_no_update():
    assert order("1.2.0~rc1", "1.2.0") is None
    assert order("1.2.0~rc1", "1.2.0~rc1") == 0
    for one, other in (("1.2.0~rc1", "1.2.0"), ("1.2.0", "nightly")):
        with pytest.raises(DowngradeError, match="nobody can say"):
            something_to_do(ref(one), ref(other))
    assert something_to_do(ref("1.2.0"), ref("nightly"), allow_downgrade=True)


def test_the_image_that_is_booted_already_is_nothing_to_do():
    assert not something_to_do(ref("1.2.0"), ref("1.2.0"))
    assert not something_to_do(ref("", "/cache/a"), ref("", "/cache/a"))


@pytest.mark.parametrize("version", ["1.2.0", "1.2", "v1.2.0"])
def test_the_same_version_with_other_contents_is_refused(version):
    with pytest.raises(DowngradeError, match="with other contents"):
        something_to_do(ref("1.2.0", "/images/a"), ref(version, "/images/b"))


def test_images_that_were_built_here_have_no_order():
    assert something_to_do(ref("", "/cache/a"), ref("", "/cache/b"))
    assert something_to_do(ref("1.2.0"), ref("", "/cache/b"))
    assert something_to_do(ref("", "/cache/a"), ref("1.2.0"))


def test_another_profile_is_no_update():
    with pytest.raises(UsageError, match="of the profile debug, the instance boots default"):
        something_to_do(ref("1.2.0"), ref("1.3.0", profile="debug"), allow_downgrade=True)
