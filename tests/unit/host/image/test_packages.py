"""The list of installed packages, with checksums, from dpkg's and apt's own files."""

import pytest

from cofferdam.errors import BuildError
from cofferdam.profile import load_profile
from cofferdam.rootfs.build import removal_patterns
from cofferdam.tools.packages import Archive, Contents, Package, archives, installed, paragraphs

STATUS = """Package: crun
Status: install ok installed
Architecture: amd64
Source: crun-src (1.2)
Version: 1.21-1
Description: fast
 long text: with a colon
 .

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.152
"""
PACKAGES = """Package: crun
Version: 1.21-1
Architecture: amd64
SHA256: aaa

Package: crun
Version: 1.20-1
Architecture: amd64
SHA256: old

Package: adduser
Version: 3.152
Architecture: all
SHA256: bbb
"""
RELEASE = """-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian
Suite: stable
Version: 13.1
Codename: trixie
Date: Sat, 06 Sep 2025 08:31:45 UTC
SHA256:
 0123 1 main/binary-amd64/Packages
"""


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "x_dists_trixie_main_binary-amd64_Packages").write_text(PACKAGES)
    (tmp_path / "x_dists_trixie_InRelease").write_text(RELEASE)
    (tmp_path / "status").write_text(STATUS)
    return tmp_path


def test_installed_packages_have_the_checksum_of_their_version(lists):
    found = installed(lists / "status", lists)
    assert [(p.name, p.version, p.architecture, p.source, p.sha256) for p in found] == [
        ("adduser", "3.152", "all", "adduser", "bbb"),
        ("crun", "1.21-1", "amd64", "crun-src", "aaa"),
    ]


def test_a_package_of_unknown_origin_is_an_error(lists):
    (lists / "x_dists_trixie_main_binary-amd64_Packages").write_text(PACKAGES.replace("3.152", "3.151"))
    with pytest.raises(BuildError, match=r"adduser 3\.152"):
        installed(lists / "status", lists)


def test_archives_are_named_with_their_date(lists):
    (archive,) = archives(lists)
    assert (archive.suite, archive.codename, archive.version) == ("stable", "trixie", "13.1")
    assert archive.date == "Sat, 06 Sep 2025 08:31:45 UTC"


def test_an_unsigned_release_file_is_read_too(lists):
    (lists / "x_dists_trixie_InRelease").unlink()
    (lists / "x_dists_trixie_Release").write_text("Suite: testing\nCodename: forky\n")
    assert [archive.codename for archive in archives(lists)] == ["forky"]


def test_continued_lines_are_not_fields():
    assert list(paragraphs(["A: 1", " B: 2", "", "", "C: 3"])) == [{"A": "1"}, {"C": "3"}]


def test_a_topic_can_take_back_what_another_one_removes():
    pattern = "usr/lib/x86_64-linux-gnu/libsqlite3*"
    removed = {name: removal_patterns(load_profile(name)) for name in ("default", "debug")}
    assert pattern in removed["default"]
    assert pattern not in removed["debug"]
    assert not [line for lines in removed.values() for line in lines if line.startswith("!")]


def test_what_was_found_is_in_one_order_whatever_apt_calls_its_lists():
    suites = [Archive(origin="Debian", suite=name, codename=name, version="", date="") for name in ("b", "a", "c")]
    names = [
        Package(name=name, version="1", architecture=kind, source="s", sha256="0")
        for name, kind in (("b", "all"), ("a", "b"), ("a", "a"))
    ]
    one, other = Contents(packages=names, archives=suites), Contents(packages=names[::-1], archives=suites[::-1])
    assert one.model_dump_json() == other.model_dump_json()
    assert [each.codename for each in one.archives] == ["a", "b", "c"]
    assert [(each.name, each.architecture) for each in one.packages] == [("a", "a"), ("a", "b"), ("b", "all")]
