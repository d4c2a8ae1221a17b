"""What is named becomes an installed image when `inv verify` accepts it, and else only when it is asked for."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import pytest

from cofferdam.errors import HostError, InstanceError, UsageError
from cofferdam.image.model import KERNEL, ROOT, Image
from cofferdam.install import source
from cofferdam.install.source import Wanted, from_directory, from_registry
from cofferdam.install.unpack import ArchiveError
from cofferdam.machine.hostos import FileLock
from cofferdam.machine.imageref import ORIGIN, read_origin, reference
from cofferdam.progress import Progress
from cofferdam.release.verify import NotVerifiedError
from unit.host.install.conftest import members

QUIET = Progress(quiet=True)


def take(place: Path, signers: Path | None = None, **wanted: object) -> Image:
    return from_directory(place, Wanted(key=signers, **wanted), QUIET)


def there(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.name != ".lock")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_release_is_installed_once_and_known_again(release, signers, store):
    folder = release("1.2.0")
    image = take(folder, signers)
    ref, origin = reference(image), read_origin(image.directory)
    assert (ref.version, ref.profile, ref.verified, ref.installed) == ("1.2.0", "default", True, True)
    assert origin.artefact == "cofferdam-1.2.0-default-direct.tar"
    assert image.directory == store / f"{origin.sha256[:32]}-1.2.0"
    assert image.kernel.read_text() == "the vmlinuz"
    assert store.stat().st_mode & 0o777 == 0o700
    before = image.root.stat()
    assert take(folder, signers).root.stat().st_ino == before.st_ino, "it is not unpacked again"
    shutil.rmtree(folder)
    assert image.root.exists()


@pytest.mark.parametrize("name", ["cofferdam-1.2.0-default-direct.tar", "manifest.json", "SHA256SUMS", "SHA256SUMS.sig"])
def test_a_tampered_release_is_refused(release, signers, store, name):
    folder = release("1.2.0")
    flip(folder / name)
    with pytest.raises(NotVerifiedError, match="cannot be trusted") as error:
        take(folder, signers)
    assert "--unverified" in error.value.hint
    assert there(store) == []


def test_a_release_of_somebody_else_is_refused(release, tmp_path, store):
    with pytest.raises(NotVerifiedError, match="signature"):
        take(release("1.2.0"), tmp_path / "nobody")
    assert there(store) == []


def test_what_was_asked_for_all_the_same_is_marked_until_it_was_verified(release, signers, tmp_path, store):
    folder = release("1.2.0")
    image = take(folder, tmp_path / "nobody", unverified=True)
    assert reference(image).words == "1.2.0, NOT VERIFIED"
    assert reference(take(folder, signers)).words == "1.2.0, verified"
    assert len(there(store)) == 1
    assert reference(take(folder, tmp_path / "nobody", unverified=True)).words == "1.2.0, verified", "it has the same bits"


def test_a_tampered_archive_is_another_image_even_when_asked_for(release, signers, store):
    folder = release("1.2.0")
    good = take(folder, signers)
    archive = folder / "cofferdam-1.2.0-default-direct.tar"
    archive.write_bytes(archive.read_bytes().replace(b"the vmlinuz", b"no! vmlinuz"))
    with pytest.raises(ArchiveError, match="is not what its"):
        take(folder, signers, unverified=True)
    assert there(store) == [good.directory.name]


def test_the_directory_of_an_image_has_to_be_asked_for(home, store):
    with pytest.raises(NotVerifiedError, match="nobody has signed") as error:
        take(home / "image")
    assert "--unverified" in error.value.hint
    image = take(home / "image", unverified=True)
    assert (reference(image).version, reference(image).words.partition(", ")[2]) == ("", "NOT VERIFIED")
    (home / "image" / KERNEL).write_text("another")
    assert image.kernel.read_text() == "the vmlinuz", "it is a copy"
    with pytest.raises(UsageError, match="of profile default, not debug"):
        take(home / "image", unverified=True, profile="debug")


@pytest.mark.parametrize("damage", ["flip", "more", "less", "origin"])
def test_an_installed_image_that_was_damaged_is_made_again(release, signers, damage):
    folder = release("1.2.0")
    image = take(folder, signers)
    {
        "flip": lambda: flip(image.directory / ROOT),
        "more": lambda: (image.directory / "more").touch(),
        "less": lambda: (image.directory / ROOT).unlink(),
        "origin": lambda: (image.directory / ORIGIN).write_text("{"),
    }[damage]()
    again = take(folder, signers)
    assert again.root.read_text() == "the root.erofs"
    assert reference(again).version == "1.2.0"
    assert not (again.directory / "more").exists()


def test_what_a_killed_command_left_is_in_nobodys_way(release, signers, store):
    folder = release("1.2.0")
    name = take(folder, signers).directory.name
    shutil.move(store / name, store / f"{name}.new")
    assert take(folder, signers).directory.name == name
    assert there(store) == [name]


def test_only_one_installs_at_a_time(release, signers, store, monkeypatch):
    folder = release("1.2.0")
    take(folder, signers)
    lock = FileLock(store / ".lock")
    assert lock.acquire()
    monkeypatch.setattr("cofferdam.install.store.store_locked.__wrapped__.__defaults__", (0.1,))
    with lock.holding(), pytest.raises(InstanceError, match="another command is installing"):
        take(folder, signers)


def test_a_release_without_the_profile_says_what_it_has(release, signers):
    with pytest.raises(UsageError, match="has no image of profile debug to boot; it has: default"):
        take(release("1.2.0"), signers, profile="debug")
    with pytest.raises(UsageError, match="it has: none"):
        take(release("1.3.0", kind="qcow2"), signers)


def test_an_artefact_of_another_profile_than_it_says_is_refused(release, signers, store):
    with pytest.raises(NotVerifiedError, match="holds an image of profile default"):
        take(release("1.2.0", profile="company"), signers)
    assert there(store) == []


def test_an_image_that_lets_ssh_in_is_not_one_of_a_release(home, release, signers):
    manifest = home / "image/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"ssh": True}))
    with pytest.raises(UsageError, match="lets ssh in"):
        take(release("1.2.0"), signers)


@pytest.mark.parametrize("unverified", [False, True])
def test_what_is_no_release_at_all(tmp_path, signers, unverified):
    with pytest.raises(UsageError, match="no such directory"):
        take(tmp_path / "nothing", signers, unverified=unverified)
    (tmp_path / "empty").mkdir()
    with pytest.raises((UsageError, NotVerifiedError)):
        take(tmp_path / "empty", signers, unverified=unverified)


def test_a_release_whose_archive_is_missing_is_an_error_all_the_same(release, signers):
    folder = release("1.2.0")
    (folder / "cofferdam-1.2.0-default-direct.tar").unlink()
    with pytest.raises(UsageError, match="No such file"):
        take(folder, signers, unverified=True)


def test_a_registry_is_downloaded_from_verified_and_nothing_is_left(release, signers, store, monkeypatch):
    folder, asked = release("1.2.0"), []

    def fetch_release(reference: str, target: Path, progress: Progress, *, key: Path | None = None) -> Path:
        asked.append((reference, key))
        return Path(shutil.copytree(folder, target))

    module = types.ModuleType("registry")
    module.fetch_release = fetch_release
    monkeypatch.setitem(sys.modules, "cofferdam.release.registry", module)
    store.mkdir(parents=True)
    (store / source.DOWNLOAD).mkdir()
    (store / source.DOWNLOAD / "left").touch()
    image = from_registry("localhost:5000/cofferdam:1.2.0", Wanted(key=signers), QUIET)
    assert reference(image).words == "1.2.0, verified"
    assert asked == [("localhost:5000/cofferdam:1.2.0", signers)]
    flip(folder / "SHA256SUMS.sig")
    with pytest.raises(NotVerifiedError):
        from_registry("localhost:5000/cofferdam:1.2.0", Wanted(key=signers), QUIET)
    assert there(store) == [image.directory.name]


def test_a_version_that_cannot_download_says_so(monkeypatch):
    monkeypatch.setattr(source, "_REGISTRY", "cofferdam.release.no_such_module")
    with pytest.raises(HostError, match="cannot download") as error:
        from_registry("localhost:5000/cofferdam:1.2.0", Wanted(), QUIET)
    assert "--image DIR" in error.value.hint


def test_the_entries_of_a_test_are_those_of_an_image(home):
    assert {name for name, _ in members(home / "image")} == {path.name for path in (home / "image").iterdir()}
