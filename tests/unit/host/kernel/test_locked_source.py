"""The kernel's source from the lock: whatever the suite offers, and from a directory without asking it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cofferdam.errors import BuildError
from cofferdam.kernel.build import ensure_source
from cofferdam.kernel.source import NoCapableSourceError, lock_contents, locked_candidate
from cofferdam.profile import load_profile
from cofferdam.tools.lock import Pinned
from cofferdam.tools.packages import Archive, Contents, Package
from cofferdam.tools.store import store_path

CAPABLE = "struct file_system_type ovl_fs_type = {\n\t.fs_flags = FS_USERNS_MOUNT | FS_ALLOW_IDMAP,\n};\n"
DEB = b"the package file"
PACKAGE = Package(
    name="linux-source-7.2",
    version="7.2.9-1~bpo13+1",
    architecture="all",
    source="linux",
    sha256=hashlib.sha256(DEB).hexdigest(),
)
ARCHIVE = Archive(origin="Debian", suite="trixie-backports", codename="trixie-backports", version="", date="")
LOCKED = Contents(packages=[PACKAGE], archives=[ARCHIVE])


@pytest.fixture
def suite(tools):
    """A suite that offers a newer source, and still has the locked one unless `gone`."""
    seen = {"gone": False, "text": CAPABLE}

    def download(argv, paths):
        if seen["gone"]:
            return 100, "E: Version '7.2.9-1~bpo13+1' for 'linux-source-7.2' was not found\nE: Unable to find a source package"
        (paths["/mnt"] / "linux-source.deb").write_bytes(DEB)
        return ""

    def unpack(argv, paths):
        (paths["/build"] / "deb/usr/src").mkdir(parents=True)
        (paths["/build"] / "deb/usr/src/linux-source-7.2.tar.xz").write_text(seen["text"])
        return ""

    tools.answers |= {
        "apt-get --error-on=any": lambda argv, paths: "",
        "apt-get download": download,
        "dpkg-deb": unpack,
        "tar": lambda argv, paths: seen["text"],
    }
    return seen


def asked(tools) -> list[list[str]]:
    return [[word for word in call["argv"] if not word.startswith("-o")] for call in tools.calls if call["network"]]


def test_the_locked_version_is_asked_for_and_kept_in_the_users_cache(tools, progress, suite):
    source = ensure_source(load_profile("default"), tools, progress, pinned=Pinned("kernel", LOCKED))
    assert (source.version, source.sha256, source.suite) == (PACKAGE.version, PACKAGE.sha256, "trixie-backports")
    assert asked(tools)[-1] == ["apt-get", "download", "linux-source-7.2=7.2.9-1~bpo13+1"]
    assert store_path(PACKAGE).read_bytes() == DEB
    facts = json.loads((source.tarball.parent / "source.json").read_text())
    assert (facts["size"], facts["sha256"]) == (len(DEB), PACKAGE.sha256)
    tools.calls.clear()
    assert ensure_source(load_profile("default"), tools, progress, pinned=Pinned("kernel", LOCKED)) == source
    assert tools.calls == []


def test_a_kept_package_needs_no_network(tools, progress, suite, tmp_path: Path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/linux-source-7.2_7.2.9-1~bpo13+1_all.deb").write_bytes(DEB)
    source = ensure_source(load_profile("default"), tools, progress, pinned=Pinned("kernel", LOCKED, tmp_path / "kept"))
    assert source.tarball.read_text() == CAPABLE
    assert asked(tools) == []


@pytest.mark.parametrize("kept", [True, False])
def test_a_source_that_is_gone_stops_with_its_name(tools, progress, suite, tmp_path, kept):
    suite["gone"] = True
    (tmp_path / "kept").mkdir()
    pinned = Pinned("kernel", LOCKED, tmp_path / "kept" if kept else None)
    with pytest.raises(BuildError, match=r"linux-source-7\.2 7\.2\.9-1~bpo13\+1 all") as caught:
        ensure_source(load_profile("default"), tools, progress, pinned=pinned)
    assert "--packages DIR" in caught.value.hint


def test_a_source_without_the_capability_is_refused(tools, progress, suite):
    suite["text"] = "nothing"
    with pytest.raises(NoCapableSourceError, match=r"locked linux-source-7\.2"):
        ensure_source(load_profile("default"), tools, progress, pinned=Pinned("kernel", LOCKED))


def test_what_was_taken_is_what_is_locked(tools, progress, suite):
    source = ensure_source(load_profile("default"), tools, progress, pinned=Pinned("kernel", LOCKED))
    assert lock_contents(source) == LOCKED


@pytest.mark.parametrize("packages", [[], [PACKAGE, PACKAGE]])
def test_a_lock_names_one_source(packages):
    with pytest.raises(BuildError, match="must name one package"):
        locked_candidate(Contents(packages=packages, archives=[ARCHIVE]))
