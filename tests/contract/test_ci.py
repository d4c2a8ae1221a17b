"""The pipelines are what their services take, call verbs and options that there are and nothing else, and leave no format out."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import tasks
import yaml

from cofferdam.image.formats import FORMATS
from cofferdam.paths import ROOT
from cofferdam.profile import load_profile, profile_names
from cofferdam.release.manifest import SUFFIXES, SUMS
from cofferdam.release.steps import STEPS

SCHEMAS = {"github.yml": "vendor.github-workflows", "gitlab.yml": "vendor.gitlab-ci"}
GITLAB_WORDS = {"stages", "workflow", "default"}
CALL = re.compile(r"(?:sudo (?:--preserve-env=\w+ )?)?\./inv (?P<words>.+)")
# A copy: Invoke takes the texts of options out of the tasks that it describes.
VERBS = {context.name: context for context in copy.deepcopy(tasks.namespace).to_contexts()}


def pipeline(name: str) -> Any:
    return yaml.safe_load((ROOT / "ci" / name).read_text(encoding="utf-8"))


def jobs(name: str) -> dict[str, Any]:
    found = pipeline(name)
    return found["jobs"] if "jobs" in found else {key: value for key, value in found.items() if key not in GITLAB_WORDS}


def lines(name: str) -> Iterator[str]:
    """Every command of a pipeline."""
    for job in jobs(name).values():
        scripts = [step["run"] for step in job.get("steps", ()) if "run" in step]
        for key in ("before_script", "script", "after_script"):
            scripts += job.get(key, [])
        for script in scripts:
            yield from script.strip().splitlines()


def matrix(name: str) -> dict[str, list[str]]:
    job = jobs(name)["build"]
    found = job["strategy"]["matrix"] if "strategy" in job else job["parallel"]["matrix"][0]
    return {key.lower(): value for key, value in found.items()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_service_takes_it(name):
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[name], str(ROOT / "ci" / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_calls_verbs_and_options_that_there_are_and_nothing_else(name):
    called = set()
    for line in lines(name):
        match = CALL.fullmatch(line)
        assert match, f"{line}: no call of ./inv"
        verb, *words = shlex.split(re.sub(r"\$\{\{[^}]*\}\}", "VALUE", match["words"]))
        options = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert options <= set(VERBS[verb].flags), line
        called.add(verb)
        if "--until" in words:
            assert words[words.index("--until") + 1] in [step.name for step in STEPS]
    assert called == {"release", "test", "bench", "verify", "publish"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_its_matrix_is_every_profile_that_is_released_and_every_format(name):
    released = [each for each in profile_names() if not load_profile(each).ssh and load_profile(each).isolation != "none"]
    assert matrix(name) == {"profile": released, "format": list(SUFFIXES)}
    assert set(FORMATS) <= set(SUFFIXES)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_last_job_waits_for_all_others(name):
    found = jobs(name)
    assert set(found["release"]["needs"]) == set(found) - {"release"}


def test_sigstore_signs_the_sums_of_what_was_verified_and_holds_up_nothing():
    job = jobs("github.yml")["release"]
    steps = [step.get("uses", "").partition("@")[0] or step["run"].split()[1] for step in job["steps"]]
    attests = steps.index("actions/attest-build-provenance")
    assert steps.index("verify") < attests < steps.index("publish")
    assert job["steps"][attests]["continue-on-error"] is True
    assert job["steps"][attests]["with"]["subject-checksums"].endswith(f"/{SUMS}")
    assert {"id-token": "write", "attestations": "write"}.items() <= job["permissions"].items()
