"""Known vulnerabilities, by a small file in the shape of the security tracker's."""

from __future__ import annotations

import json

import pytest

from cofferdam.errors import UsageError
from cofferdam.image.model import Manifest
from cofferdam.release.vulnerabilities import judge, judge_image, rank, read_data, require_urgency
from vmtest.releases import package


def state(status: str, urgency: str = "medium", **more: object) -> dict[str, object]:
    return {"status": status, "urgency": urgency, **more}


DATA = {
    "crun": {
        "CVE-1": {"description": "old", "releases": {"trixie": state("resolved", fixed_version="1.21-1")}},
        "CVE-2": {
            "description": "mended later",
            "releases": {"trixie": state("resolved", "low", fixed_version="1.21-1+deb13u1")},
        },
        "CVE-3": {"releases": {"trixie": state("open", "high**")}},
        "CVE-4": {"releases": {"sid": state("open", "high")}},
        "CVE-5": {"releases": {"trixie": state("resolved", fixed_version="0")}},
        "CVE-6": {"releases": {"trixie": state("open", "not yet assigned")}},
        "CVE-7": {"releases": {"trixie": state("undetermined", "unimportant")}},
    },
    "linux": {
        "CVE-8": {"releases": {"trixie": state("open", "high"), "sid": state("resolved", fixed_version="7.3.4-1")}},
        "CVE-9": {"releases": {"sid": state("resolved", fixed_version="7.3.10-1")}},
    },
    "other": {"CVE-10": {"releases": {"trixie": state("open", "high")}}},
}


@pytest.fixture
def manifest(image) -> Manifest:
    return Manifest.model_validate_json(image.manifest.read_text())


def test_what_is_open_or_mended_later_is_found_worst_first(manifest):
    found = judge_image(manifest, DATA)
    assert [(each.id, each.urgency, each.fixed) for each in found] == [
        ("CVE-3", "high", ""),
        ("CVE-6", "unknown", ""),
        ("CVE-9", "medium", "7.3.10-1"),
        ("CVE-2", "low", "1.21-1+deb13u1"),
        ("CVE-7", "unimportant", ""),
    ]
    assert found[0].packages == ("crun", "libcrun")


def test_what_nobody_has_judged_counts_as_the_worst():
    assert rank("unknown") == rank("high") > rank("medium") > rank("low") > rank("unimportant")
    with pytest.raises(UsageError, match="--fail-on terrible"):
        require_urgency("terrible")


def test_what_has_no_support_any_more_is_not_called_unimportant(manifest):
    data = {**DATA, "crun": {"CVE-1": {"releases": {"trixie": state("open", "end-of-life")}}}}
    assert [each.urgency for each in judge_image(manifest, data) if each.source == "crun"] == ["unknown"]


@pytest.mark.parametrize("missing", ["trixie", "sid"])
def test_data_that_know_nothing_of_a_suite_do_not_pass_for_no_vulnerabilities(manifest, missing):
    there = "sid" if missing == "trixie" else "trixie"
    with pytest.raises(UsageError, match=f"says nothing of the suite {missing}"):
        judge_image(manifest, {"other": {"CVE-1": {"releases": {there: state("open")}}}, "empty": {}})


def test_an_epoch_that_only_the_package_has_mends_nothing():
    made = [
        package("bsdutils", "1:2.41-5", "util-linux"),
        package("mount", "2.41-5", "util-linux"),
        package("zlib1g", "1:1.3-1", "zlib"),
    ]
    seen = {"repositories": {"trixie": "2.41-5"}}
    data = {
        "util-linux": {
            "CVE-1": {"releases": {"trixie": state("resolved", fixed_version="2.41-6", **seen)}},
            "CVE-2": {"releases": {"trixie": state("resolved", fixed_version="2.41-5", **seen)}},
            "CVE-3": {"releases": {"trixie": state("open", **seen)}},
        },
        "zlib": {
            "CVE-4": {"releases": {"trixie": state("resolved", fixed_version="1:1.2", repositories={"trixie": "1:1.3-1"})}},
        },
    }
    assert [(each.id, each.installed, each.packages) for each in judge(made, "trixie", data)] == [
        ("CVE-1", "2.41-5", ("bsdutils", "mount")),
        ("CVE-3", "2.41-5", ("bsdutils", "mount")),
    ]
    (lone,) = judge(made[:1], "trixie", {"util-linux": {"CVE-1": data["util-linux"]["CVE-1"]}})
    assert lone.fixed == "2.41-6"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"crun": 3}'])
def test_a_file_that_is_not_the_trackers_is_refused(tmp_path, text):
    (tmp_path / "data").write_text(text)
    with pytest.raises(UsageError, match="--data"):
        read_data(tmp_path / "data")


@pytest.mark.parametrize(
    "entry", [{}, {"releases": 3}, {"releases": {"trixie": {}}}, {"releases": {"trixie": {"status": "fine"}}}]
)
def test_an_entry_of_another_shape_is_not_passed_over(manifest, entry):
    with pytest.raises(UsageError, match="crun CVE-1: not in the tracker's shape"):
        judge_image(manifest, {"crun": {"CVE-1": entry}})


def test_without_a_file_it_says_how_to_get_one(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_data(None)
    assert "--data FILE" in caught.value.hint
    (tmp_path / "data").write_text(json.dumps(DATA))
    assert read_data(tmp_path / "data") == DATA
