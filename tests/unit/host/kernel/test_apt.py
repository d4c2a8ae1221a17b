"""apt's answers: which package is the newest, which suite is asked, and which error a message stands for."""

from __future__ import annotations

import pytest

from cofferdam.errors import BuildError
from cofferdam.kernel.apt import Apt, ChecksumError, NoNetworkError, PackageGoneError, classify, newest, suite_line


def test_the_newest_source_is_found_by_number_not_by_text() -> None:
    names = [
        "linux-source-7.9",
        "linux-source-7.10",
        "linux-source-6.12",
        "linux-source",
        "linux-source-7.20-rt",
        "linux-sources-8.1",
    ]
    assert newest(names) == "linux-source-7.10"
    assert newest(["linux-source", "linux-image-7.3"]) is None


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("deb http://m/debian trixie main", "deb http://m/debian testing main"),
        (
            "deb [signed-by=/k.gpg] http://m/debian trixie main contrib",
            "deb [signed-by=/k.gpg] http://m/debian testing main contrib",
        ),
        (
            "deb http://m/s trixie-security main\n# deb http://no/ x y\ndeb http://m/debian trixie main",
            "deb http://m/debian testing main",
        ),
    ],
)
def test_the_suite_replaces_the_release_of_the_tree(sources: str, expected: str) -> None:
    assert suite_line(sources, "testing") == expected


@pytest.mark.parametrize("sources", ["", "deb-src http://m/debian trixie main", "deb http://m/debian trixie-updates main"])
def test_a_tree_without_a_release_line_is_an_error(sources: str) -> None:
    with pytest.raises(BuildError, match="no release"):
        suite_line(sources, "testing")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("W: Failed to fetch http://m/InRelease  Temporary failure resolving 'm'", NoNetworkError),
        (
            "E: Failed to fetch http://m/x  Could not connect to m:80 (1.2.3.4). - connect (111: Connection refused)",
            NoNetworkError,
        ),
        ("E: The repository 'http://m/debian nosuch Release' does not have a Release file.", PackageGoneError),
        ("E: Failed to fetch http://m/x.deb  404  Not Found [IP: 1.2.3.4 80]", PackageGoneError),
        ("E: Failed to fetch http://m/x.deb  Hash Sum mismatch", ChecksumError),
        ("E: Failed to fetch http://m/x.deb  File has unexpected size (1 != 2). Mirror sync in progress?", ChecksumError),
    ],
)
def test_messages_of_apt(text: str, kind: type[BuildError]) -> None:
    error = classify(f"Get:1 something\n{text}\n", "package list of testing")
    assert type(error) is kind
    assert "package list of testing" in str(error)
    assert text in str(error)
    assert error.hint


def test_an_unknown_message_is_passed_on() -> None:
    error = classify("E: Something new", "x")
    assert type(error) is BuildError
    assert "E: Something new" in str(error)


def test_the_list_is_asked_for_with_network_and_from_the_suite_alone(tools) -> None:
    seen = {}

    def update(argv, paths):
        seen["sources"] = (paths["/build"] / "sources.list").read_text()
        return ""

    tools.answers["apt-get --error-on=any"] = update
    tools.answers["apt-cache"] = lambda argv, paths: "linux-source\nlinux-source-7.3\n"
    tools.answers["apt-cache --no-all-versions"] = lambda argv, paths: (
        "Package: linux-source-7.3\nVersion: 7.3.4-1\nSize: 12\nSHA256: abc\nDescription: x\n Version: 9\n\nPackage: linux-source-7.3\nVersion: 1\n"
    )
    with Apt(tools, "testing") as apt:
        candidate = apt.newest_source()
    assert seen["sources"] == "deb http://mirror.example/debian testing main\n"
    assert tools.calls[0]["network"] is True
    assert (candidate.version, candidate.sha256, candidate.size, candidate.suite) == ("7.3.4-1", "abc", 12, "testing")


def test_a_suite_without_kernel_sources(tools) -> None:
    tools.answers["apt-get --error-on=any"] = lambda argv, paths: ""
    tools.answers["apt-cache"] = lambda argv, paths: "linux-source\n"
    with Apt(tools, "testing") as apt, pytest.raises(PackageGoneError, match="no linux-source"):
        apt.newest_source()


def test_no_temporary_directory_is_left_when_the_list_fails(tools, tmp_path, monkeypatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    tools.answers["apt-get --error-on=any"] = lambda argv, paths: (100, "E: Could not connect to m:80")
    with pytest.raises(NoNetworkError), Apt(tools, "testing"):
        pass
    assert list((tmp_path / "tmp").iterdir()) == []
