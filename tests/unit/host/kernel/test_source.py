"""Which suite's source is taken, what is recorded, and which error each mishap ends in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cofferdam.errors import BuildError
from cofferdam.kernel.apt import ChecksumError, NoNetworkError
from cofferdam.kernel.build import ensure_source
from cofferdam.kernel.source import NoCapableSourceError, accepts_idmapped_overlay, cached_source, resolution_path, resolve
from cofferdam.profile import load_profile

SUITES = ["trixie-backports", "testing"]
CAPABLE = "struct file_system_type ovl_fs_type = {\n\t.fs_flags = FS_USERNS_MOUNT | FS_ALLOW_IDMAP,\n};\n"
OLD = "/* FS_ALLOW_IDMAP some day */\nstruct file_system_type ovl_fs_type = {\n\t.fs_flags = FS_USERNS_MOUNT,\n};\n"
NO_NETWORK = (100, "W: Failed to fetch http://m/InRelease  Temporary failure resolving 'm'")
NO_SUITE = (100, "E: The repository 'http://m/debian x Release' does not have a Release file.")


class Archive:
    """What the suites offer: version and overlayfs source text, or apt's failure."""

    def __init__(self, tools, **suites):
        self.suites = {name.replace("_", "-"): value for name, value in suites.items()}
        self.current = ""
        self.tamper = False
        self.refuse_download: tuple[int, str] | None = None
        tools.answers |= {
            "apt-get --error-on=any": self.update,
            "apt-cache": lambda argv, paths: f"linux-source\nlinux-source-{self.version}\n",
            "apt-cache --no-all-versions": self.show,
            "apt-get download": self.download,
            "dpkg-deb": self.unpack,
            "tar": lambda argv, paths: (paths["/build"] / f"linux-source-{self.version}.tar.xz").read_text(),
        }

    @property
    def version(self) -> str:
        return self.suites[self.current][0]

    @property
    def package(self) -> bytes:
        return f"package {self.version} of {self.current}".encode()

    def update(self, argv, paths):
        self.current = (paths["/build"] / "sources.list").read_text().split()[2]
        offer = self.suites.get(self.current, NO_SUITE)
        return offer if isinstance(offer[0], int) else ""

    def show(self, argv, paths):
        digest = hashlib.sha256(self.package).hexdigest()
        return f"Version: {self.version}.4-1\nSize: {len(self.package)}\nSHA256: {digest}\n"

    def download(self, argv, paths):
        if self.refuse_download:
            return self.refuse_download
        (paths["/mnt"] / "linux-source.deb").write_bytes(self.package + (b"!" if self.tamper else b""))
        return ""

    def unpack(self, argv, paths):
        target = paths["/build"] / "deb/usr/src"
        target.mkdir(parents=True)
        (target / f"linux-source-{self.version}.tar.xz").write_text(self.suites[self.current][1])
        return ""


def test_the_first_suite_is_taken_and_recorded(tools, progress) -> None:
    Archive(tools, trixie_backports=("7.3", CAPABLE), testing=("7.9", CAPABLE))
    source = resolve(SUITES, tools, progress)
    assert (source.package, source.version, source.suite) == ("linux-source-7.3", "7.3.4-1", "trixie-backports")
    assert source.tarball.read_text() == CAPABLE
    record = json.loads(resolution_path(SUITES).read_text())
    assert (record["version"], record["suite"], record["sha256"]) == (source.version, source.suite, source.sha256)
    assert source.sha256 == hashlib.sha256(b"package 7.3 of trixie-backports").hexdigest()
    assert sorted(path.name for path in source.tarball.parent.iterdir()) == ["linux-source-7.3.tar.xz", "source.json"]


@pytest.mark.parametrize("first", [("6.12", OLD), NO_SUITE])
def test_the_second_suite_stands_in(tools, progress, first) -> None:
    Archive(tools, trixie_backports=first, testing=("7.9", CAPABLE))
    assert resolve(SUITES, tools, progress).suite == "testing"


def test_no_suite_will_do_says_why_for_each(tools, progress) -> None:
    Archive(tools, trixie_backports=("6.12", OLD), testing=NO_SUITE)
    with pytest.raises(NoCapableSourceError) as caught:
        resolve(SUITES, tools, progress)
    assert "trixie-backports: its newest kernel source" in str(caught.value)
    assert "testing: " in str(caught.value)
    assert "does not have a Release file" in str(caught.value)
    assert "kernel.suites" in caught.value.hint
    assert not resolution_path(SUITES).exists()


def test_without_network_the_next_suite_is_not_tried(tools, progress) -> None:
    Archive(tools, trixie_backports=NO_NETWORK, testing=("7.9", CAPABLE))
    with pytest.raises(NoNetworkError, match="trixie-backports"):
        resolve(SUITES, tools, progress)


def test_a_changed_file_is_refused_and_not_kept(tools, progress, cache_home: Path) -> None:
    archive = Archive(tools, trixie_backports=("7.3", CAPABLE))
    archive.tamper = True
    with pytest.raises(ChecksumError, match="sha256"):
        resolve(SUITES, tools, progress)
    assert not list(cache_home.rglob("*.tar.xz"))
    assert cached_source(SUITES) is None


@pytest.mark.parametrize("outcome", [(100, "E: Failed to fetch http://m/l.deb  404  Not Found")])
def test_a_package_gone_between_list_and_download_leads_to_the_next_suite(tools, progress, outcome) -> None:
    archive = Archive(tools, trixie_backports=("7.3", CAPABLE))
    archive.refuse_download = outcome
    with pytest.raises(NoCapableSourceError, match="404"):
        resolve(SUITES, tools, progress)


def test_the_record_serves_without_network_until_a_refresh(tools, progress) -> None:
    profile = load_profile("default")
    archive = Archive(tools, trixie_backports=("7.3", CAPABLE))
    first = ensure_source(profile, tools, progress)
    tools.calls.clear()
    archive.suites["trixie-backports"] = ("7.4", CAPABLE)
    assert ensure_source(profile, tools, progress) == first
    assert tools.calls == []
    assert ensure_source(profile, tools, progress, refresh=True).package == "linux-source-7.4"
    archive.suites["trixie-backports"] = NO_NETWORK
    with pytest.raises(NoNetworkError):
        ensure_source(profile, tools, progress, refresh=True)
    assert ensure_source(profile, tools, progress).package == "linux-source-7.4"


@pytest.mark.parametrize("spoil", ["file", "record", "keys"])
def test_a_spoilt_record_is_resolved_anew(tools, progress, spoil: str) -> None:
    Archive(tools, trixie_backports=("7.3", CAPABLE))
    source = resolve(SUITES, tools, progress)
    record = resolution_path(SUITES)
    if spoil == "file":
        source.tarball.unlink()
    else:
        record.write_text("{" if spoil == "record" else '{"version": "1"}')
    assert cached_source(SUITES) is None
    assert resolve(SUITES, tools, progress).tarball.read_text() == CAPABLE


def test_the_order_of_suites_has_a_record_of_its_own() -> None:
    assert resolution_path(SUITES) != resolution_path(SUITES[::-1])


@pytest.mark.parametrize(("text", "expected"), [(CAPABLE, True), (OLD, False), ("", False), ("FS_ALLOW_IDMAP", False)])
def test_the_capability_is_read_from_the_driver_entry(text: str, expected: bool) -> None:
    assert accepts_idmapped_overlay(text) is expected


def test_a_package_without_the_file_is_an_error(tools, progress) -> None:
    Archive(tools, trixie_backports=("7.3", CAPABLE))
    tools.answers["tar"] = lambda argv, paths: (2, "tar: linux-source-7.3/fs/overlayfs/super.c: Not found in archive")
    with pytest.raises(BuildError, match="cannot read"):
        resolve(SUITES, tools, progress)
