"""Composing a root: what is removed, what is added, what links become."""

import io
import tarfile

import pytest

from cofferdam.errors import BuildError
from cofferdam.rootfs.compose import Entry, compose, is_removed


@pytest.fixture
def base(tmp_path):
    """A tar as mmdebstrap writes it: `./` names, a hard link, an extended attribute, a setuid program, a link to a directory."""
    path = tmp_path / "base.tar"
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as sink:

        def add(name, kind=tarfile.REGTYPE, data=b"", mode=0o644, link="", pax=None, uid=0):
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.mode, member.linkname, member.size, member.uid, member.mtime = (
                kind,
                mode,
                link,
                len(data),
                uid,
                77,
            )
            member.pax_headers = pax or {}
            sink.addfile(member, io.BytesIO(data))

        add("usr", tarfile.DIRTYPE, mode=0o755)
        add("usr/bin", tarfile.DIRTYPE, mode=0o755)
        add("bin", tarfile.SYMTYPE, link="usr/bin")
        add("usr/bin/zz", data=b"program", mode=0o755)
        add("usr/bin/aa", tarfile.LNKTYPE, link="./usr/bin/zz")
        add("usr/bin/mm", tarfile.LNKTYPE, link="./usr/bin/zz")
        add("usr/bin/ping", data=b"ping", mode=0o4755, pax={"SCHILY.xattr.security.capability": "cap", "comment": "no"})
        add("usr/share", tarfile.DIRTYPE, mode=0o755)
        add("usr/share/doc", tarfile.DIRTYPE, mode=0o755)
        add("usr/share/doc/readme", data=b"text")
        add("var", tarfile.DIRTYPE, mode=0o755)
        add("var/owned", data=b"x", uid=42)
    return path


def result(base, tmp_path, remove=(), entries=()):
    """Members by name, with the content of files."""
    path = tmp_path / "out.tar"
    compose(base, path, remove, entries)
    with tarfile.open(path) as source:
        return {member.name: (member, source.extractfile(member).read() if member.isreg() else None) for member in source}


def test_a_removed_directory_takes_what_is_below_it(base, tmp_path):
    members = result(base, tmp_path, remove=["usr/share/doc"])
    assert "usr/share" in members
    assert not [name for name in members if name.startswith("usr/share/doc")]


def test_removing_a_hard_links_target_keeps_the_content_under_the_other_names(base, tmp_path):
    members = result(base, tmp_path, remove=["usr/bin/zz"])
    assert members["usr/bin/aa"][1] == b"program"
    assert members["usr/bin/aa"][0].mode == 0o755
    assert members["usr/bin/mm"][0].islnk() and members["usr/bin/mm"][0].linkname == "usr/bin/aa"


def test_hard_links_survive_whatever_the_order(base, tmp_path):
    members = result(base, tmp_path)
    assert members["usr/bin/aa"][1] == b"program"
    assert {members[f"usr/bin/{name}"][0].linkname for name in ("mm", "zz")} == {"usr/bin/aa"}


def test_a_pattern_that_matches_nothing_is_an_error(base, tmp_path):
    with pytest.raises(BuildError, match="usr/share/man"):
        result(base, tmp_path, remove=["usr/share/doc", "usr/share/man"])


def test_owners_stay_setuid_bits_capabilities_and_time_stamps_go(base, tmp_path):
    members = result(base, tmp_path)
    ping = members["usr/bin/ping"][0]
    assert (ping.mode, ping.pax_headers) == (0o755, {})
    assert members["var/owned"][0].uid == 42
    assert {member.mtime for member, _ in members.values()} == {0}


def test_entries_replace_files_and_bring_their_directories(base, tmp_path):
    members = result(base, tmp_path, entries=[Entry("usr/bin/ping", b"ours", 0o755), Entry("usr/lib/x/y.conf", b"conf")])
    assert members["usr/bin/ping"][1] == b"ours" and members["usr/bin/ping"][0].mode == 0o755
    assert members["usr/lib/x/y.conf"][1] == b"conf"
    assert members["usr/lib/x"][0].isdir() and members["usr/lib/x"][0].mode == 0o755


def test_an_entry_can_bring_a_removed_path_back(base, tmp_path):
    members = result(base, tmp_path, remove=["var"], entries=[Entry("var", directory=True)])
    assert members["var"][0].isdir()
    assert "var/owned" not in members


def test_a_link_replaces_a_file(base, tmp_path):
    member = result(base, tmp_path, entries=[Entry("usr/bin/ping", link="../x")])["usr/bin/ping"][0]
    assert member.issym() and member.linkname == "../x"


def test_an_entry_below_a_link_is_refused(base, tmp_path):
    with pytest.raises(BuildError, match="below /bin"):
        result(base, tmp_path, entries=[Entry("bin/tool", b"x")])


def test_a_file_in_the_place_of_a_directory_is_refused(base, tmp_path):
    with pytest.raises(BuildError, match="/usr/share is a directory"):
        result(base, tmp_path, entries=[Entry("usr/share", b"x")])


def test_the_same_input_gives_the_same_bytes(base, tmp_path):
    entries = [Entry("b", b"1"), Entry("a", link="b")]
    compose(base, tmp_path / "one.tar", ["var"], entries)
    compose(base, tmp_path / "two.tar", ["var"], reversed(entries))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


@pytest.mark.parametrize(
    ("path", "pattern", "removed"),
    [
        ("usr/share/doc", "usr/share/doc", True),
        ("usr/share/doc/a/b", "usr/share/doc", True),
        ("usr/share/document", "usr/share/doc", False),
        ("usr/lib/python3.13/test/x.py", "usr/lib/python3.*/test", True),
        ("etc/rc3.d", "etc/rc?.d", True),
    ],
)
def test_patterns(path, pattern, removed):
    assert is_removed(path, [pattern]) is removed
