"""Finding and publishing images, and what a manifest holds."""

import json
import threading

import pytest

from cofferdam.errors import BuildError
from cofferdam.image.build import package_stamp, publish
from cofferdam.image.model import MANIFEST, POLICY, load_image, open_image

MANIFEST_DATA = {
    "format": 1,
    "profile": "debug",
    "description": "for tests",
    "isolation": "kernel",
    "ssh": True,
    "cmdline": ["loglevel=4"],
    "kernel": {
        "version": "7.3.4-cofferdam",
        "config_sha256": "c",
        "source_package": "linux-source-7.3",
        "source_version": "7.3.4-1",
        "source_suite": "trixie-backports",
        "source_sha256": "d",
    },
    "root": {"suite": "trixie", "compression": "lz4hc", "archives": []},
    "files": {"vmlinuz": {"sha256": "e", "size": 1}},
    "packages": [{"name": "crun", "version": "1", "architecture": "amd64", "source": "crun", "sha256": "f"}],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def image(cache, name, **changes):
    directory = cache / "image" / name
    directory.mkdir(parents=True)
    (directory / MANIFEST).write_text(json.dumps({**MANIFEST_DATA, **changes}))
    return directory


def test_no_image_names_the_command_that_makes_one(cache):
    with pytest.raises(BuildError) as caught:
        load_image("debug")
    assert "inv build-vm --profile debug" in caught.value.hint


def test_the_latest_published_image_is_loaded(cache):
    first, second = image(cache, "one"), image(cache, "two")
    publish("debug", first)
    assert load_image("debug").directory == first.resolve()
    publish("debug", second)
    loaded = load_image("debug")
    assert loaded.directory == second.resolve()
    assert (loaded.profile, loaded.cmdline) == ("debug", ["loglevel=4"])
    assert loaded.ssh_key == loaded.directory / "ssh_key"
    assert [path.name for path in (cache / "images").iterdir()] == ["debug"]


def test_an_image_without_ssh_has_no_keys(cache):
    opened = open_image(image(cache, "one", ssh=False))
    assert opened.ssh_key is None and opened.ssh_known_hosts is None


def test_the_copy_of_the_policy_is_known_when_there_is_one(cache):
    directory = image(cache, "one")
    assert open_image(directory).policy is None
    (directory / POLICY).write_text("{}")
    assert open_image(directory).policy == directory / POLICY


@pytest.mark.parametrize("changes", [{"unknown": 1}, {"kernel": {}}, {"packages": [{}]}])
def test_a_manifest_of_another_version_is_refused(cache, changes):
    directory = image(cache, "one", **changes)
    with pytest.raises(BuildError, match="not an image of this version"):
        open_image(directory)


def test_an_image_whose_entry_was_removed_is_no_image(cache):
    directory = image(cache, "one")
    publish("debug", directory)
    (directory / MANIFEST).unlink()
    directory.rmdir()
    with pytest.raises(BuildError, match="no image of profile"):
        load_image("debug")


def test_publishing_at_once_always_leaves_a_whole_link(cache):
    directories = [image(cache, str(number)) for number in range(4)]
    threads = [threading.Thread(target=publish, args=("debug", directory)) for directory in directories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load_image("debug").directory in [directory.resolve() for directory in directories]


def test_the_stamp_changes_only_on_refresh(cache):
    assert package_stamp(renew=False) == ""
    renewed = package_stamp(renew=True)
    assert renewed and package_stamp(renew=False) == renewed
