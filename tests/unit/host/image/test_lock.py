"""The lock: what is written, what it refuses, and trees that are made by the real mmdebstrap from locked packages alone."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from cofferdam.cache import Stage, file_digest
from cofferdam.errors import BuildError, UsageError
from cofferdam.kernel.apt import Candidate
from cofferdam.kernel.source import KernelSource
from cofferdam.progress import Progress
from cofferdam.release import lock
from cofferdam.release.lock import changes, newest, trees
from cofferdam.run import run
from cofferdam.tools.debian import COPYRIGHTS, make_tree
from cofferdam.tools.lock import Lock, Pinned, chosen_lock, differences, read_lock, write_lock
from cofferdam.tools.packages import RECORD, Archive, Contents, Package, recorded
from cofferdam.tools.store import available, file_name, keep, store_path

SUITE = "trixie"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def package(name: str, version: str, sha256: str = "0" * 64, architecture: str = "all") -> Package:
    return Package(name=name, version=version, architecture=architecture, source=name, sha256=sha256)


def contents(*packages: Package) -> Contents:
    archive = Archive(origin="Debian", suite="stable", codename=SUITE, version="13.1", date="today")
    return Contents(packages=list(packages), archives=[archive])


@pytest.fixture
def debs(tmp_path: Path):
    """Makes real package files: `debs("demo", "1.0")` is its entry in a lock, its file lies in the directory `offered`."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    offered = tmp_path / "offered"
    offered.mkdir()

    def make(name: str, version: str, depends: str = "") -> Package:
        tree = tmp_path / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        lines = [f"Package: {name}", f"Version: {version}", "Architecture: all", "Maintainer: nobody", "Description: test"]
        lines += [f"Depends: {depends}"] if depends else []
        (tree / "DEBIAN/control").write_text("\n".join(lines) + "\n")
        for place, text in ((f"opt/{name}", version), (f"usr/share/doc/{name}/copyright", "License: MIT")):
            (tree / place).parent.mkdir(parents=True, exist_ok=True)
            (tree / place).write_text(text)
        unnamed = offered / "new.deb"
        run(["dpkg-deb", "--build", "--root-owner-group", tree, unnamed], capture=True)
        result = package(name, version, file_digest(unnamed))
        unnamed.rename(offered / file_name(result))
        return result

    return make


def tree(tmp_path: Path, pinned: Pinned, *names: str) -> tuple[Contents, dict[str, str]]:
    """The tree that the real mmdebstrap makes from a lock: its record, and its files in /opt."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed")
    work = tmp_path / "work"
    work.mkdir(parents=True)
    (tmp_path / "log").touch()
    found = make_tree(SUITE, work / "tree.tar", tmp_path / "log", variant="extract", packages=names, pinned=pinned)
    with tarfile.open(work / "tree.tar") as source:
        files = {member.name: source.extractfile(member) for member in source if "/opt/" in member.name}
        return found, {Path(name).name: data.read().decode() for name, data in files.items() if data is not None}


def test_copyright_files_are_kept_beside_the_tree_and_not_in_it(debs, tmp_path):
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed")
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "log").touch()
    pinned = Pinned("test", contents(debs("demo", "1.0")), tmp_path / "offered")
    make_tree(SUITE, work / "t.tar", tmp_path / "log", variant="extract", packages=["demo"], pinned=pinned, copyrights=True)
    assert json.loads((work / COPYRIGHTS).read_text()) == {"demo": "License: MIT"}
    with tarfile.open(work / "t.tar") as source:
        names = source.getnames()
    assert "./opt/demo" in names and not [name for name in names if name.startswith("./usr/share/doc/")]


def no_network(_: object) -> None:
    raise AssertionError("the suites were asked")


def test_a_version_that_is_not_the_newest_is_taken_from_the_directory(debs, tmp_path):
    old, _ = debs("demo", "1.0", "library"), debs("demo", "2.0")
    library = debs("library", "1:3.0~rc1+b2")
    found, files = tree(tmp_path, Pinned("test", contents(old, library), tmp_path / "offered"), "demo")
    assert files == {"demo": "1.0", "library": "1:3.0~rc1+b2"}
    assert found == contents(old, library) == recorded(tmp_path / "work")
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [RECORD, "tree.tar"]


def test_nothing_of_the_lock_is_left_in_the_tree(debs, tmp_path):
    tree(tmp_path, Pinned("test", contents(debs("demo", "1.0")), tmp_path / "offered"), "demo")
    with tarfile.open(tmp_path / "work/tree.tar") as source:
        names = source.getnames()
        sources = source.extractfile("./etc/apt/sources.list").read().decode()
    assert "copy:" not in sources and f" {SUITE} main" in sources
    assert not [name for name in names if name in ("./etc/sources.list", "./etc/sources.list.d")]
    assert "./usr/share/doc/demo/copyright" not in names


def test_a_package_from_the_users_cache_needs_no_directory(debs, tmp_path):
    demo = debs("demo", "1.0")
    store_path(demo).parent.mkdir(parents=True)
    (tmp_path / "offered" / file_name(demo)).rename(store_path(demo))
    assert tree(tmp_path, Pinned("test", contents(demo)), "demo")[1] == {"demo": "1.0"}


def test_a_package_that_is_nowhere_stops_with_its_name(debs, tmp_path):
    demo, gone = debs("demo", "1.0"), package("gone", "4.5")
    with pytest.raises(BuildError, match=r"neither in the cache nor in .*offered:\ngone 4\.5 all") as caught:
        available(Pinned("test", contents(demo, gone), tmp_path / "offered"), SUITE, no_network)
    assert "--packages DIR" in caught.value.hint and "--update" in caught.value.hint


def test_what_the_suites_have_replaced_stops_with_its_name(debs, tmp_path):
    asked = []
    with pytest.raises(BuildError, match=rf"neither in the cache nor offered by {SUITE}:\ngone 4\.5 all"):
        available(Pinned("test", contents(package("gone", "4.5"))), SUITE, asked.extend)
    assert asked == [package("gone", "4.5")]


def test_a_file_with_another_checksum_is_not_taken(debs, tmp_path):
    demo = debs("demo", "1.0")
    path = tmp_path / "offered" / file_name(demo)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(BuildError, match=r"demo 1\.0 all"):
        available(Pinned("test", contents(demo), tmp_path / "offered"), SUITE, no_network)


def test_a_directory_of_packages_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a directory"):
        available(Pinned("test", contents(), tmp_path / "nowhere"), SUITE, no_network)


def test_a_locked_package_that_is_not_used_stops(debs, tmp_path):
    demo, other = debs("demo", "1.0"), debs("other", "1.0")
    with pytest.raises(BuildError, match=r"test: other: locked 1\.0 all \(\w+\), found not"):
        tree(tmp_path, Pinned("test", contents(demo, other), tmp_path / "offered"), "demo")


def test_a_package_list_that_asks_for_more_than_is_locked_stops(debs, tmp_path):
    with pytest.raises(BuildError, match=r"vm/lock/test\.json does not have: other") as caught:
        tree(tmp_path, Pinned("test", contents(debs("demo", "1.0")), tmp_path / "offered"), "demo", "other")
    assert "inv lock --update" in caught.value.hint


def test_kept_packages_serve_a_build(debs, tmp_path):
    demo = debs("demo", "2:1.0-1")
    keep({demo: tmp_path / "offered" / file_name(demo)}, tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["demo_2%3A1.0-1_all.deb"]
    (tmp_path / "kept/demo_2%3A1.0-1_all.deb").write_bytes(b"half")
    keep({demo: tmp_path / "offered" / file_name(demo)}, tmp_path / "kept")
    assert list(available(Pinned("test", contents(demo), tmp_path / "kept"), SUITE, no_network)) == [demo]


def test_a_directory_that_packages_cannot_be_kept_in_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"deb")
    for directory in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UsageError, match=str(directory)):
            keep({package("demo", "1.0"): tmp_path / "file"}, directory)


def test_a_stage_that_holds_what_is_locked_is_used_and_another_is_not(cache):
    usual = Stage("base", "a" * 64)
    pinned = Pinned("test", contents(package("demo", "1.0")))
    own = pinned.stage(usual)
    assert own.path != usual.path and own.key == pinned.stage(usual).key
    usual.path.mkdir(parents=True)
    assert pinned.stage(usual).path == own.path, "nobody knows what is in it"
    (usual.path / RECORD).write_text(contents(package("demo", "1.1")).model_dump_json())
    assert pinned.stage(usual).path == own.path
    (usual.path / RECORD).write_text(pinned.contents.model_dump_json())
    assert pinned.stage(usual) is usual
    assert Pinned("test", contents(package("demo", "2.0"))).stage(usual).key != own.key


def test_a_lock_is_sorted_a_package_a_line_and_read_again(tmp_path):
    wanted = contents(package("zlib", "1"), package("adduser", "3"))
    write_lock("tools", wanted, tmp_path)
    lines = (tmp_path / "tools.json").read_text().splitlines()
    assert [json.loads(line.rstrip(","))["name"] for line in lines if '"sha256"' in line] == ["adduser", "zlib"]
    assert sorted(read_lock("tools", tmp_path).packages, key=str) == sorted(wanted.packages, key=str)
    write_lock("tools", read_lock("tools", tmp_path), tmp_path)
    assert (tmp_path / "tools.json").read_text().splitlines() == lines
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["tools.json"]


@pytest.mark.parametrize("text", ["{", "{}", '{"packages": [], "archives": [], "more": 1}', "\udcff"])
def test_a_lock_that_is_none_is_refused_by_its_name(tmp_path, text):
    (tmp_path / "tools.json").write_text(text, errors="surrogateescape")
    with pytest.raises(BuildError, match=r"tools\.json"):
        read_lock("tools", tmp_path)


def test_a_missing_lock_says_how_to_make_one(tmp_path):
    with pytest.raises(BuildError, match="nothing is locked for the tree `tools`") as caught:
        Lock(tmp_path).pinned("tools")
    assert "inv lock --update" in caught.value.hint


def test_differences_are_named_with_both_versions():
    lines = [
        each.line()
        for each in differences(
            "root",
            [package("same", "1"), package("newer", "1", "a" * 64), package("gone", "1"), package("other", "1", "c" * 64)],
            [package("same", "1"), package("newer", "2", "b" * 64), package("come", "1"), package("other", "1", "d" * 64)],
        )
    ]
    assert lines == [
        "root: come: locked not, found 1 all (000000000000)",
        "root: gone: locked 1 all (000000000000), found not",
        "root: newer: locked 1 all (aaaaaaaaaaaa), found 2 all (bbbbbbbbbbbb)",
        "root: other: locked 1 all (cccccccccccc), found 1 all (dddddddddddd)",
    ]


def test_the_suites_offer_is_the_newest_by_debians_order(tmp_path):
    rows = [("demo", "1.10-1"), ("demo", "1.9-1"), ("demo", "1.10-1~bpo1"), ("kept", "1:0.1"), ("kept", "9")]
    text = "\n".join(f"Package: {name}\nVersion: {version}\nArchitecture: all\nSHA256: {version}\n" for name, version in rows)
    (tmp_path / "x_Packages").write_text(text)
    offered = newest(tmp_path)
    assert {each.name: each.version for each in offered.values()} == {"demo": "1.10-1", "kept": "1:0.1"}
    locked = [package("demo", "1.9-1", "1.9-1"), package("kept", "1:0.1", "another"), package("gone", "1", "1")]
    assert [(each.name, each.found) for each in changes("root", locked, offered)] == [
        ("demo", "1.10-1 all (1.10-1)"),
        ("kept", "1:0.1 all (1:0.1)"),
        ("gone", ""),
    ]


@pytest.mark.parametrize(("options", "said"), [({"packages": "x"}, "--locked"), ({"locked": True, "refresh": True}, "exclude")])
def test_options_that_do_not_go_together(options, said):
    with pytest.raises(UsageError) as caught:
        chosen_lock(**{"locked": False, "packages": "", "refresh": False, **options})
    assert said in f"{caught.value} {caught.value.hint}"


def test_every_tree_of_every_profile_is_locked():
    names = [each.name for each in trees()]
    assert {"tools", "virtiofsd", "root-default", "root-debug", "root-baseline"} <= set(names)
    assert len(names) == len(set(names))


@pytest.fixture
def suites(monkeypatch, tmp_path):
    """What the suites offer, by name of the tree that is made from it; a tree that is not there cannot be made. No network."""
    offered = {each.name: contents(package("demo", "1.0"), package(each.name, "1.0")) for each in trees()}
    source = KernelSource("7.3.4-1", "linux-source-7.3", "trixie-backports", "c" * 64, tmp_path / "tarball")

    def made(tree):
        if tree.name not in offered:
            raise BuildError(f"{tree.name} cannot be made")
        return offered[tree.name]

    monkeypatch.setattr(lock, "_made", made)
    monkeypatch.setattr(lock, "ensure_tools", lambda _: None)
    monkeypatch.setattr(lock, "newest_capable", lambda *_: source)
    return offered


def test_an_update_locks_every_tree_and_forgets_trees_that_are_no_more(suites, tmp_path):
    write_lock("root-gone", contents(), tmp_path)
    names = lock.update(Progress(quiet=True), tmp_path)
    assert sorted(f"{name}.json" for name in names) == sorted(path.name for path in tmp_path.glob("*.json"))
    assert read_lock("tools", tmp_path) == suites["tools"]
    assert read_lock("kernel", tmp_path).packages[0].name == "linux-source-7.3"
    # Two profiles with the same lists are made once.
    assert read_lock("root-debug", tmp_path) == read_lock("root-baseline", tmp_path)


def test_an_update_that_fails_changes_nothing(suites, tmp_path):
    lock.update(Progress(quiet=True), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    suites["tools"] = contents(package("demo", "2.0"))
    del suites["virtiofsd"]
    with pytest.raises(BuildError, match="virtiofsd cannot be made"):
        lock.update(Progress(quiet=True), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.json")} == before


@pytest.fixture
def offering(suites, tmp_path, monkeypatch):
    """What is locked is what is offered; a package or the kernel's source may be made another one."""
    lock.update(Progress(quiet=True), tmp_path)
    locked = [each for tree in trees() for each in suites[tree.name].packages]
    offers = {(each.name, each.architecture): each for each in locked}
    kernel = [Candidate("linux-source-7.3", "7.3.4-1", "trixie-backports", "c" * 64, 1)]

    class Source:
        def __init__(self, _, suite):
            assert suite == "trixie-backports"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def newest_source(self):
            return kernel[0]

    # Trees that are made once have the packages of the first one.
    offers |= {(each.name, "all"): each for tree in trees() for each in read_lock(tree.name, tmp_path).packages}
    monkeypatch.setattr(lock, "_offered", lambda _: offers)
    monkeypatch.setattr(lock, "Apt", Source)
    return offers, kernel


def test_what_is_locked_is_compared_with_the_offer_tree_by_tree_and_the_kernel_too(offering, tmp_path):
    offers, kernel = offering
    assert lock.compare(Progress(quiet=True), tmp_path) == []
    offers["tools", "all"] = package("tools", "2.0")
    kernel[0] = replace(kernel[0], sha256="d" * 64)
    assert [each.line() for each in lock.compare(Progress(quiet=True), tmp_path)] == [
        "tools: tools: locked 1.0 all (000000000000), found 2.0 all (000000000000)",
        f"kernel: linux-source-7.3: locked linux-source-7.3 7.3.4-1 ({'c' * 12}), found linux-source-7.3 7.3.4-1 ({'d' * 12})",
    ]


def test_every_locked_package_is_kept_once_the_kernels_too(suites, tmp_path, monkeypatch):
    lock.update(Progress(quiet=True), tmp_path / "lock")
    (tmp_path / "deb").write_bytes(b"deb")

    def files(pinned, *_):
        return dict.fromkeys(pinned.contents.packages, tmp_path / "deb")

    monkeypatch.setattr(lock, "available", files)
    monkeypatch.setattr(lock, "locked_file", files)
    count = lock.keep_packages(tmp_path / "kept", Progress(quiet=True), Lock(tmp_path / "lock"))
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert len(names) == count and {"demo_1.0_all.deb", "virtiofsd_1.0_all.deb", "linux-source-7.3_7.3.4-1_all.deb"} <= names
