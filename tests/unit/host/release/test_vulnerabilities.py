"""Known vulnerabilities, by a small file in the shape of the security tracker's."""

from __future__ import annotations

import json

import pytest

from cofferdam.errors import UsageError
from cofferdam.image.model import Manifest
from cofferdam.release.vulnerabilities import judge_image, rank, read_data, require_urgency


def state(status: str, urgency: str = "medium", **more: str) -> dict[str, object]:
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
