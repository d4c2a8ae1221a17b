"""The recipes that ship: each loads, names only what exists, and is what its description promises."""

from __future__ import annotations

import pytest

from cofferdam.kernel.fragments import FRAGMENT_DIR
from cofferdam.paths import ROOT
from cofferdam.profile import Profile, load_profile, profile_names

ROOTFS = ROOT / "vm/rootfs"
RELEASED = "default"
# What may differ from the released image, by profile; the rest is the same, or the tests would prove something else than what ships.
DIFFERENCES = {"debug": {"description", "ssh", "packages", "overlays", "cmdline"}}
DIFFERENCES["baseline"] = DIFFERENCES["debug"] | {"isolation"}


def profile(name: str) -> Profile:
    return load_profile(name)


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_names_only_what_exists(name):
    this = profile(name)
    for fragment in this.kernel.fragments:
        assert (FRAGMENT_DIR / f"{fragment}.config").is_file()
    for topic in this.packages:
        assert (ROOTFS / f"packages/{topic}.list").is_file()
    for overlay in this.overlays:
        assert (ROOTFS / f"overlay/{overlay}").is_dir()
    for names in (this.kernel.fragments, this.packages, this.overlays, this.kernel.suites):
        assert len(names) == len(set(names)), "named twice"


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_has_a_description_of_its_own(name):
    others = {profile(other).description for other in profile_names() if other != name}
    assert profile(name).description not in others
    assert len(profile(name).description) > 20


def test_the_released_profile_lets_nobody_in_and_isolates():
    this = profile(RELEASED)
    assert this.isolation == "kernel"
    assert not this.ssh
    assert this.cmdline == []
    assert not {topic for topic in this.packages if "ssh" in topic}
    assert "debug" not in this.overlays


def test_the_default_image_lists_no_remote_shell():
    words = {
        line.split()[0]
        for topic in profile(RELEASED).packages
        for line in (ROOTFS / f"packages/{topic}.list").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    }
    assert words
    assert not words & {"openssh-server", "dropbear", "dropbear-bin", "telnetd", "login", "sudo"}


@pytest.mark.parametrize("name", sorted(DIFFERENCES))
def test_test_profiles_differ_from_the_released_one_only_as_documented(name):
    released, this = (
        profile(RELEASED).model_dump(exclude={"name", "include"}),
        profile(name).model_dump(exclude={"name", "include"}),
    )
    assert {key for key in released if released[key] != this[key]} == DIFFERENCES[name]
    assert this["ssh"]
    for key in ("packages", "overlays"):
        assert this[key][: len(released[key])] == released[key]
    # What makes an emulated processor quicker, and nothing that a row of the suites could rest on.
    assert this["cmdline"] == ["norandmaps", "mitigations=off", "highres=off"]


def test_baseline_is_debug_without_isolation():
    """The negative control differs in nothing but what it is a control for."""
    debug, baseline = (profile(name).model_dump(exclude={"name", "description"}) for name in ("debug", "baseline"))
    assert {key for key in debug if debug[key] != baseline[key]} == {"isolation", "overlays"}
    assert baseline["overlays"] == [*debug["overlays"], "baseline"]
    assert (debug["isolation"], baseline["isolation"]) == ("kernel", "none")


def test_no_profile_uses_the_debug_fragment():
    assert (FRAGMENT_DIR / "debug.config").is_file()
    assert [name for name in profile_names() if "debug" in profile(name).kernel.fragments] == []


def test_every_fragment_but_the_debug_one_is_used():
    known = {path.stem for path in FRAGMENT_DIR.glob("*.config")}
    used = {fragment for name in profile_names() for fragment in profile(name).kernel.fragments}
    assert known - used == {"debug"}


def test_every_package_list_and_overlay_is_used():
    all_profiles = [profile(name) for name in profile_names()]
    assert {path.stem for path in (ROOTFS / "packages").glob("*.list")} == {
        topic for each in all_profiles for topic in each.packages
    }
    assert {path.name for path in (ROOTFS / "overlay").iterdir()} == {name for each in all_profiles for name in each.overlays}
