"""The audit, each check with an input that passes and one that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from cofferdam.kernel import docker_check
from cofferdam.kernel.audit import Accepted, AuditError, Finding, Lists, audit, require_clean, unknown_refusals
from cofferdam.kernel.fragments import FRAGMENT_DIR, Option, fragment_paths, merge
from cofferdam.profile import load_profile

REASON = "a reason that is long enough"
DOCKER = {option: "y" for options in docker_check.NEEDS.values() for option in options}
NOTHING_REFUSED = Lists({"NEVER": REASON})


def option(name: str, value: str = "y") -> Option:
    return Option(name, value, "net.config:7")


def test_a_configuration_as_requested_has_no_findings() -> None:
    config = {**DOCKER, "A": "y", "N": "-1"}
    assert audit(config, [option("A"), option("B", "n"), option("N", "-1")], NOTHING_REFUSED, []) == []


@pytest.mark.parametrize(("wanted", "final"), [("y", None), ("y", "n"), ("y", "m"), ("64", "32"), ("n", "y"), ('"a"', '"b"')])
def test_an_option_that_did_not_come_out_as_requested(wanted: str, final: str | None) -> None:
    config = DOCKER if final is None else {**DOCKER, "A": final}
    (finding,) = audit(config, [option("A", wanted)], NOTHING_REFUSED, [], lambda name: f"depends on {name}_PARENT [n]")
    assert (finding.check, finding.option, finding.fatal) == ("requested", "A", True)
    assert "net.config:7" in finding.message
    assert "  depends on A_PARENT [n]" in finding.message.splitlines()


@pytest.mark.parametrize("value", ["y", "m", "1"])
def test_a_refused_option_that_is_present(value: str) -> None:
    (finding,) = audit({**DOCKER, "IO_URING": value}, [], Lists({"IO_*": REASON}), [])
    assert (finding.check, finding.option, finding.fatal) == ("refused", "IO_URING", True)
    assert REASON in finding.message


@pytest.mark.parametrize("config", [{"IO_URING": "n"}, {"IO_URING": '""'}, {}, {"AUDIO_URING": "y"}])
def test_a_refused_option_that_is_not_present(config: dict[str, str]) -> None:
    assert audit({**DOCKER, **config}, [], Lists({"IO_*": REASON}), []) == []


def test_a_need_of_docker_that_is_missing_names_the_feature() -> None:
    config = {name: value for name, value in DOCKER.items() if name != "VXLAN"}
    (finding,) = audit(config, [], NOTHING_REFUSED, [])
    assert (finding.check, finding.option) == ("docker", "VXLAN")
    assert "network driver overlay" in finding.message


def test_an_accepted_exception_silences_its_check_only() -> None:
    lists = Lists({"A": REASON}, (Accepted(check="requested", options=["A"], reason=REASON),))
    findings = audit({**DOCKER, "A": "m"}, [option("A")], lists, [])
    assert [(finding.check, finding.option) for finding in findings] == [("refused", "A")]


def test_an_exception_that_is_not_needed_is_reported_but_not_fatal() -> None:
    lists = Lists({"NEVER": REASON}, (Accepted(check="docker", options=["VXLAN"], reason=REASON),))
    (finding,) = audit(DOCKER, [], lists, [])
    assert (finding.check, finding.option, finding.fatal) == ("stale", "VXLAN", False)


@pytest.mark.parametrize(("fragments", "expected"), [(["debug"], []), (["base"], ["DEBUG_FS"])])
def test_an_exception_for_a_fragment_holds_with_that_fragment_alone(fragments: list[str], expected: list[str]) -> None:
    lists = Lists({"DEBUG_FS": REASON}, (Accepted(check="refused", options=["DEBUG_FS"], reason=REASON, fragment="debug"),))
    findings = audit({**DOCKER, "DEBUG_FS": "y"}, [], lists, fragments)
    assert [finding.option for finding in findings] == expected


def test_a_refused_pattern_that_the_source_does_not_know() -> None:
    (finding,) = unknown_refusals({"KEXEC*": REASON, "GONE": REASON}, {"KEXEC_FILE", "NET"})
    assert (finding.check, finding.option, finding.fatal) == ("unknown", "GONE", False)


def test_findings_end_in_one_error_that_lists_them(tmp_path: Path) -> None:
    with pytest.raises(AuditError) as caught:
        require_clean([Finding("refused", "A", "first"), Finding("docker", "B", "second")], tmp_path / "config")
    assert "first\nsecond" in str(caught.value)
    assert "accepted.toml" in caught.value.hint
    require_clean([], tmp_path / "config")


@pytest.mark.parametrize(
    ("refused", "accepted"),
    [
        ("version = 1\n[options]\n", "version = 1\naccepted = []\n"),
        ("version = 2\n[options]\nA = 'x'\n", "version = 1\naccepted = []\n"),
        (
            "version = 1\n[options]\nA = 'x'\n",
            "version = 1\n[[accepted]]\ncheck = 'dockr'\noptions = ['A']\nreason = 'long enough, this one'\n",
        ),
        ("version = 1\n[options]\nA = 'x'\n", "version = 1\n[[accepted]]\ncheck = 'docker'\noptions = ['A']\nreason = ''\n"),
        (
            "version = 1\n[options]\nA = 'x'\n",
            "version = 1\n[[accepted]]\ncheck = 'docker'\noptions = []\nreason = 'long enough, this one'\n",
        ),
        ("version = 1\n[options]\nA = 'x'\n", "not toml"),
        ("version = 1\n[options]\nA = 'x'\n", None),
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, refused: str, accepted: str | None) -> None:
    (tmp_path / "refused.toml").write_text(refused, encoding="utf-8")
    if accepted is not None:
        (tmp_path / "accepted.toml").write_text(accepted, encoding="utf-8")
    with pytest.raises(AuditError):
        Lists.load(tmp_path / "refused.toml", tmp_path / "accepted.toml")


def test_the_project_does_not_request_what_it_refuses() -> None:
    profile = load_profile("default")
    options = merge(fragment_paths(profile.kernel.fragments))
    config = {row.name: row.value for row in options}
    findings = audit(config, options, Lists.load(), profile.kernel.fragments)
    assert [finding.message for finding in findings if finding.check in ("requested", "refused")] == []


def test_the_debug_fragment_is_refused_without_its_exception() -> None:
    options = merge([FRAGMENT_DIR / "debug.config"])
    config = {row.name: row.value for row in options}
    lists = Lists.load()
    without = {finding.option for finding in audit(config, options, lists, ["base"]) if finding.check == "refused"}
    assert without == {"KALLSYMS", "MAGIC_SYSRQ", "DEBUG_FS"}
    assert not [finding for finding in audit(config, options, lists, ["debug"]) if finding.check == "refused"]


def test_docker_accepts_modules_and_misses_the_rest() -> None:
    config = {**DOCKER, "VETH": "m", "BRIDGE": "n"}
    assert docker_check.missing(config) == {"BRIDGE": "generally necessary"}
