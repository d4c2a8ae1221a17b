"""Pruning: what something current refers to stays, by whatever way it refers to it; all else of known stages goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cofferdam import lifeverbs
from cofferdam.cache import NotCachedError, Stage, digest, file_digest, only_cached
from cofferdam.errors import BuildError, CofferdamError, InstanceError, UsageError
from cofferdam.image.build import publish
from cofferdam.image.formats import content_of
from cofferdam.image.model import Manifest
from cofferdam.kernel.source import resolution_path
from cofferdam.machine import prune
from cofferdam.machine.imageref import LOCK, ImageRef, image_store
from cofferdam.machine.instance import remove_instance
from cofferdam.machine.kept import Kept, write_kept
from cofferdam.profile import load_profile
from cofferdam.progress import Progress
from cofferdam.tools.lock import Lock
from cofferdam.tools.tree import ensure_image_tools, ensure_tools

PACKAGE = {"name": "crun", "version": "1", "architecture": "amd64", "source": "crun", "sha256": "f"}
ARCHIVE = {"origin": "Debian", "suite": "stable", "codename": "trixie", "version": "13", "date": "today"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stage(name: str, mark: str, files: dict[str, str]) -> Path:
    """A finished stage with its lock and log."""
    path = Stage(name, digest(mark)).path
    path.mkdir(parents=True)
    for file, text in files.items():
        (path / file).write_text(text)
    for suffix in (".lock", ".log"):
        path.with_suffix(suffix).touch()
    return path


def made(mark: str) -> dict[str, Path]:
    """All stages of an image, and the image; its kernel and root are links to the stages' own."""
    packages = {"packages": [PACKAGE | {"version": mark}], "archives": [ARCHIVE]}
    stages = {
        "kernel": stage("kernel", mark, {"vmlinuz": f"kernel {mark}", "config": f"config {mark}"}),
        "root": stage("root", mark, {"root.erofs": f"root {mark}" * 1000}),
        "kernel-config": stage("kernel-config", mark, {"config": f"config {mark}"}),
        "kernel-source": stage("kernel-source", mark, {"source.json": json.dumps({"sha256": mark})}),
        "base": stage("base", mark, {"base.tar": "tar", "packages.json": json.dumps(packages, indent=1)}),
    }
    image = stage("image", mark, {})
    os.link(stages["kernel"] / "vmlinuz", image / "vmlinuz")
    os.link(stages["root"] / "root.erofs", image / "root.erofs")
    facts = {name: {"sha256": file_digest(image / name), "size": 1} for name in ("vmlinuz", "root.erofs")}
    kernel = dict.fromkeys(("version", "source_package", "source_version", "source_suite"), "x")
    kernel |= {"config_sha256": file_digest(stages["kernel-config"] / "config"), "source_sha256": mark}
    manifest = {"profile": "default", "description": "", "isolation": "kernel", "ssh": False, "cmdline": []}
    manifest |= {"kernel": kernel, "files": facts, "packages": packages["packages"]}
    manifest |= {"root": {"suite": "trixie", "compression": "lz4hc", "archives": [ARCHIVE]}}
    (image / "manifest.json").write_text(json.dumps(manifest))
    artefact = stage("artefact", mark, {"content": content_of(Manifest.model_validate(manifest)), "disk.raw": mark * 1000})
    return {**stages, "image": image, "artefact": artefact}


def planned() -> set[Path]:
    return {removal.path for removal in prune.plan()}


def test_an_empty_cache_has_nothing_to_remove(cache, capsys):
    lifeverbs.prune()
    assert capsys.readouterr().out.splitlines()[0] == "total          0 entries, 0 bytes removed"
    assert not cache.exists()


def test_what_the_latest_image_was_made_from_stays_and_the_rest_goes(cache):
    old, new = made("old"), made("new")
    publish("default", old["image"])
    publish("default", new["image"])
    found = prune.plan()
    assert {removal.path for removal in found} == set(old.values())
    assert prune.remove(found) == found
    assert all(path.is_dir() for path in new.values())
    assert not any(
        path.exists() or path.with_suffix(".tmp").exists() or path.with_suffix(".log").exists() for path in old.values()
    )
    assert prune.plan() == []


def test_the_bytes_are_those_that_become_free(cache):
    new = made("new")
    made("old")
    publish("default", new["image"])

    def used() -> int:
        seen = {(status.st_dev, status.st_ino): status.st_blocks * 512 for path in cache.rglob("*") if (status := path.lstat())}
        return sum(seen.values())

    before = used()
    found = prune.plan()
    prune.remove(found)
    assert sum(removal.bytes for removal in found) == before - used() > 0


def test_a_file_that_stays_elsewhere_frees_nothing(cache):
    old = made("old")
    half = old["root"].rename(old["root"].with_suffix(".tmp"))
    publish("default", old["image"])
    (removal,) = prune.plan()
    assert removal.path == half
    assert removal.bytes <= half.lstat().st_blocks * 512


@pytest.mark.parametrize("how", ["command line", "record"])
def test_what_a_running_machine_uses_stays(instance, record, hold, how):
    old, new = made("old"), made("new")
    publish("default", new["image"])
    assert planned() == set(old.values())
    if how == "record":
        record.ssh_key = str(old["image"] / "ssh_key")
        instance.write_record(record)
        hold(instance.life.path)
        assert planned() == set()
        return
    words = [sys.executable, "-c", "print(flush=True); input()", f"filename={old['image']}/root.erofs"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert planned() == set()
    finally:
        process.communicate(b"\n")
    assert planned() == set(old.values())


def test_what_firmware_boots_stays_while_it_runs(cache):
    old, new = made("old"), made("new")
    publish("default", new["image"])
    tree = stage("image-tools", "old", {})
    names = [f'"filename": "{path}/file"' for path in (old["artefact"], tree)]
    words = [sys.executable, "-c", "print(flush=True); input()", *names]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert planned() == set(old.values()) - {old["artefact"]}
        process.communicate(b"\n")
    assert planned() == {*old.values(), tree}


def installed(name: str) -> Path:
    path = image_store() / name
    path.mkdir(parents=True)
    (path / "root.erofs").write_text(name)
    return path


def ref(path: Path) -> ImageRef:
    return ImageRef(directory=str(path), profile="default")


def test_what_an_instance_boots_or_goes_back_to_stays(instance):
    """Built here or installed; of an update that is under way also the new one."""
    old, new = made("old"), made("new")
    publish("default", new["image"])
    current, former, coming, gone = (installed(name) for name in ("current", "former", "coming", "gone"))
    (image_store() / "half.new").mkdir()
    (image_store() / ".download").mkdir()
    write_kept(instance, Kept(current=ref(old["image"])))
    assert planned() == {current, former, coming, gone, image_store() / "half.new", image_store() / ".download"}
    kept = Kept(current=ref(current), former=ref(former)).planned(ref(coming))
    write_kept(instance, kept)
    assert planned() - set(old.values()) == {gone, image_store() / "half.new", image_store() / ".download"}
    found = prune.plan()
    write_kept(instance, kept.rolled_back("no"))
    assert coming in planned()
    write_kept(instance, Kept(current=ref(gone)))
    assert gone not in {removal.path for removal in prune.remove(found)}, "an instance came to it meanwhile"
    assert gone.exists() and not (image_store() / "half.new").exists()
    remove_instance(instance)
    assert gone in planned()


def test_nothing_that_is_being_installed_goes(instance, hold):
    installed("gone")
    hold(image_store() / LOCK)
    assert planned() == set()


def test_an_instance_whose_images_nobody_knows_removes_nothing(instance):
    installed("gone")
    (instance.directory / "images.json").write_text("{")
    with pytest.raises(InstanceError, match="is damaged"):
        prune.plan()


def test_what_a_build_would_find_stays(cache):
    """Made step by step under the keys that the build itself asks for, each of them next to an older one."""
    profile = load_profile("default")
    old = made("old")
    tarball = stage("kernel-source", "current", {"source.tar.xz": "x", "source.json": '{"sha256": "x"}'}) / "source.tar.xz"
    source = {"version": "1", "package": "p", "suite": "s", "sha256": "x", "tarball": str(tarball)}
    resolution_path(profile.kernel.suites).write_text(json.dumps(source))
    contents = json.dumps({"packages": [], "archives": []})
    files = {
        "tools": {},
        "image-tools": {},
        "base": {"packages.json": contents},
        "kernel-config": {"config": "c", "audit.json": "[]"},
        "kernel": {"build.json": '{"release": "7", "config_sha256": "c"}'},
        "root": {},
    }
    for name, texts in files.items():
        asked = [path for path in prune.current_stages() if path.parent.name == name]
        assert asked, f"a build asks for {name} once what comes before it is there"
        for path in asked:
            path.mkdir(parents=True)
            for file, text in texts.items():
                (path / file).write_text(text)
        assert planned() == set(old.values())
    assert {stage("tools", "old", {}), stage("image-tools", "old", {})} <= planned()


@pytest.mark.parametrize("tree", ["tools", "image-tools"])
def test_tools_from_the_lock_stay(cache, tree):
    ensure = {"tools": ensure_tools, "image-tools": ensure_image_tools}[tree]
    with only_cached() as asked, pytest.raises(NotCachedError):
        ensure(Progress(quiet=True), Lock().pinned(tree))
    (locked,) = asked
    locked.mkdir(parents=True)
    old = stage(tree, "old", {})
    assert locked not in planned()
    assert old in planned()


def test_links_of_what_is_no_more_go_with_their_images(cache):
    image, current = made("gone"), made("current")
    publish("nosuch", image["image"])
    publish("default", current["image"])
    publish("debug", cache / "image/nowhere")
    being_made = cache / "images/.default.abcd"
    being_made.symlink_to("nowhere")
    assert planned() == {*image.values(), cache / "images/nosuch", cache / "images/debug"}
    prune.remove(prune.plan())
    assert {path.name for path in (cache / "images").iterdir()} == {"default", ".default.abcd"}
    assert current["image"].is_dir()


def test_what_is_locked_or_unknown_stays(cache, hold):
    half = stage("kernel", "half", {}).rename(Stage("kernel", digest("half")).path.with_suffix(".tmp"))
    (half / "linux").mkdir()
    elsewhere = stage("bench-stock", "half", {}).rename(Stage("bench-stock", digest("half")).path.with_suffix(".tmp"))
    stage("bench-stock", "whole", {})
    unreadable = stage("root", "damaged", {})
    for name in ("kernel/notes", "kernel/notes.tmp", "mine/0"):
        (cache / name).mkdir(parents=True)
    assert planned() == {half, elsewhere}
    process = hold(half.with_suffix(".lock"))
    assert planned() == {elsewhere}
    found = [prune.Removal(half, 0), *prune.plan()]
    assert [removal.path for removal in prune.remove(found)] == [elsewhere], "locked since it was planned"
    assert (half / "linux").is_dir()
    process.kill()
    process.wait()
    assert planned() == {half}
    assert unreadable.is_dir()


def test_planning_changes_nothing(cache):
    made("old")
    half = stage("root", "half", {}).rename(Stage("root", digest("half")).path.with_suffix(".tmp"))
    half.with_suffix(".lock").unlink()
    before = sorted(cache.rglob("*"))
    assert len(planned()) == 8
    assert sorted(cache.rglob("*")) == before


def test_an_image_of_another_version_removes_nothing(cache):
    image, other = made("one"), made("other")
    publish("default", image["image"])
    (image["image"] / "manifest.json").write_text("{}")
    with pytest.raises(BuildError, match="not an image of this version") as error:
        lifeverbs.prune(yes=True)
    assert error.value.hint
    assert other["kernel"].is_dir()


def test_a_killed_removal_goes_on_the_next_time(cache):
    old = made("old")
    program = (
        "import os, signal\nfrom cofferdam.machine import prune\n"
        "prune.remove_tree = lambda path: path.exists() and os.kill(os.getpid(), signal.SIGKILL)\nprune.remove(prune.plan())"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert any(path.with_suffix(".tmp").is_dir() for path in old.values())
    prune.remove(prune.plan())
    assert prune.plan() == []
    assert not any(path.exists() or path.with_suffix(".tmp").exists() for path in old.values())


def test_the_verb_shows_asks_and_removes(cache, capsys, monkeypatch):
    old = made("old")
    lifeverbs.prune(dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[-1] for line in lines[:-2]} == {str(path) for path in old.values()}
    assert lines[-1] == "next           inv prune removes them"
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(UsageError) as error:
            lifeverbs.prune()
    assert error.value.hint == "Add --yes."
    assert old["root"].is_dir()
    lifeverbs.prune(as_json=True, yes=True)
    result = json.loads(capsys.readouterr().out)
    assert result["removed"]
    assert {entry["path"] for entry in result["entries"]} == {str(path) for path in old.values()}
    assert result["bytes"] == sum(entry["bytes"] for entry in result["entries"]) > 0
    assert not old["root"].exists()


def test_only_cached_builds_nothing_and_ends_with_its_block():
    one = Stage("kernel", digest("one"))
    with only_cached() as asked, pytest.raises(NotCachedError) as error:
        one.build(lambda *_: pytest.fail("built"), Progress(quiet=True))
    assert asked == {one.path}
    assert error.value.hint
    assert isinstance(error.value, CofferdamError)
    one.build(lambda work, _: (work / "result").touch(), Progress(quiet=True))
    with only_cached() as asked:
        assert one.build(lambda *_: pytest.fail("built"), Progress(quiet=True)) == one.path
    assert asked == {one.path}
