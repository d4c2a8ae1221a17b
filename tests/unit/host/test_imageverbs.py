"""The verbs of other images from release folder to machine: `boot --image`, `update`, `rollback`; with the stand-in for QEMU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from cofferdam import imagemenu, imageverbs
from cofferdam.errors import BuildError, HostError, InstanceError, UsageError
from cofferdam.install import source
from cofferdam.machine import api, update
from cofferdam.machine.imageref import image_store
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.kept import read_kept, write_kept
from cofferdam.machine.newer import DowngradeError
from cofferdam.machine.settings import boot_settings
from cofferdam.progress import Progress
from cofferdam.release.verify import NotVerifiedError
from unit.host.install import conftest as releases
from unit.host.machine import conftest as machines
from unit.host.machine import test_lifecycle as lifecycle

host, own_home = lifecycle.host, machines.home
store, home, signers, release = releases.store, releases.home, releases.signers, releases.release


@pytest.fixture(autouse=True)
def places(own_home, host, monkeypatch):
    """State and sockets of each test's own; every machine is well."""
    monkeypatch.setenv("FAKE_QEMU", "kvm=ok")
    monkeypatch.setattr(update, "self_test", lambda *_, **__: "a container's root is id 100000 of the VM")


def boot(folder: Path | str, key: Path | str = "", **options: object) -> None:
    imageverbs.boot(name="box", data_disk="64M", image=str(folder), key=str(key), **options)


def version() -> str:
    record = Instance("box").record
    return record.image.version if record and record.image else ""


def test_a_release_is_booted_updated_and_taken_back(release, signers, capsys):
    boot(release("1.0.0"), signers)
    assert "image          1.0.0, verified" in capsys.readouterr().out
    new = release("1.1.0", entries=[*releases.members(signers.parents[1] / "image")])
    imageverbs.update("box", image=str(new), key=str(signers))
    said = capsys.readouterr().out
    assert "self-test      a container's root is id 100000 of the VM" in said
    assert "updated        from 1.0.0, verified to 1.1.0, verified" in said
    shutil.rmtree(new)
    api.restart("box", Progress(quiet=True))
    assert version() == "1.1.0"
    imageverbs.rollback("box", as_json=True)
    value = json.loads(capsys.readouterr().out)
    assert (value["updated"], value["before"]["version"], value["after"]["version"]) == (True, "1.1.0", "1.0.0")
    assert value["boot"]["image"] == "1.0.0, verified"


def test_what_the_menu_is_told_arrives(monkeypatch):
    """Every option of `inv update` and `inv rollback`, by the name that people write, in its place and on to what does it."""
    told = []
    monkeypatch.setattr(update, "settle", lambda _: [])
    monkeypatch.setattr(imageverbs, "_new_image", lambda _, *words: told.append(words[:3]))
    monkeypatch.setattr(imageverbs, "_tell", lambda *_, as_json: told.append(as_json))
    monkeypatch.setattr(update, "update", lambda name, _, __, **options: told.append((name, options)))
    monkeypatch.setattr(update, "rollback", lambda name, _: told.append(name))
    by_name = {name: each.attr_name or each.name for each in imagemenu.update.get_arguments() for name in each.names}
    assert by_name["from"] == "from_"
    menu = imagemenu.update.body
    menu(None, "box", image="DIR", key="KEY", snapshot=True)
    menu(None, "box", from_="registry.example.com/a:1", allow_downgrade=True, json=True)
    imagemenu.rollback.body(None, "box", json=True)
    assert told == [
        ("DIR", "", "KEY"),
        ("box", {"allow_downgrade": False, "snapshot": True}),
        False,
        ("", "registry.example.com/a:1", ""),
        ("box", {"allow_downgrade": True, "snapshot": False}),
        True,
        "box",
        True,
    ]


def test_the_same_release_is_nothing_to_do(release, signers, capsys):
    folder = release("1.0.0")
    boot(folder, signers)
    capsys.readouterr()
    imageverbs.update("box", image=str(folder), key=str(signers))
    assert capsys.readouterr().out == "box            boots 1.0.0, verified already: there is nothing to do\n"
    imageverbs.update("box", image=str(folder), key=str(signers), as_json=True)
    assert json.loads(capsys.readouterr().out)["updated"] is False


def test_what_is_not_verified_is_neither_booted_nor_updated_to(release, signers, tmp_path):
    folder = release("1.0.0")
    with pytest.raises(NotVerifiedError):
        boot(folder, tmp_path / "nobody")
    assert Instance("box").state() is State.ABSENT
    boot(folder, tmp_path / "nobody", unverified=True)
    assert "was not verified" in api.status("box")[0]["note"]
    with pytest.raises(NotVerifiedError):
        imageverbs.update("box", image=str(release("1.1.0")), key=str(tmp_path / "nobody"))
    assert version() == "1.0.0"


def test_an_older_release_is_refused(release, signers):
    boot(release("1.10.0"), signers)
    old = release("1.9.0")
    with pytest.raises(DowngradeError):
        imageverbs.update("box", image=str(old), key=str(signers))
    imageverbs.update("box", image=str(old), key=str(signers), allow_downgrade=True)
    assert version() == "1.9.0"


def test_options_that_say_nothing_are_errors(release, signers, monkeypatch):
    folder = release("1.0.0")
    for options in ({"key": str(signers)}, {"unverified": True}):
        with pytest.raises(UsageError, match="are for --image"):
            imageverbs.boot(name="box", **options)
    boot(folder, signers)
    with pytest.raises(InstanceError, match="already running"):
        boot(folder, signers)
    with pytest.raises(UsageError, match="are two places"):
        imageverbs.update("box", image=str(folder), registry="localhost:5000/a:1")
    with pytest.raises(UsageError, match="--key is for"):
        imageverbs.update("box", key=str(signers))
    with pytest.raises(UsageError, match=r"an image that was not built here: 1\.0\.0") as error:
        imageverbs.update("box")
    assert "--from" in error.value.hint
    monkeypatch.setattr(source, "_REGISTRY", "cofferdam.release.no_such_module")
    with pytest.raises(HostError, match="cannot download"):
        imageverbs.update("box", registry="localhost:5000/a:1")
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(signers.parent / "cache"))
    with pytest.raises(BuildError, match="no image of profile"):
        imageverbs.update("box", image="latest")


def test_the_profile_of_the_image_is_that_of_the_boot(release, signers):
    with pytest.raises(UsageError, match="has no image of profile debug"):
        boot(release("1.0.0"), signers, profile="debug")
    assert not any(path.is_dir() for path in image_store().iterdir())


def test_an_interrupted_update_is_settled_first_and_told(release, signers, capsys):
    boot(release("1.0.0"), signers)
    box = Instance("box")
    kept = read_kept(box)
    write_kept(box, kept.planned(kept.current.model_copy(update={"version": "1.0.5", "directory": "/gone"})))
    imageverbs.update("box", image=str(release("1.1.0")), key=str(signers))
    assert "the update to 1.0.5 was interrupted and is undone" in capsys.readouterr().err
    assert version() == "1.1.0"


def test_the_disk_of_a_machine_of_hyper_v_has_to_be_of_a_release_that_verifies(release, signers, tmp_path, monkeypatch):
    monkeypatch.setattr(imageverbs, "choose", lambda *_: SimpleNamespace(native=True))
    folder = release("1.0.0", kind="vhdx")
    for place in (folder, folder / "cofferdam-1.0.0-default.vhdx"):
        settings = boot_settings(name="box", image=str(place))
        assert imageverbs.named_image(settings, str(signers), unverified=False, progress=Progress(quiet=True)) is None
    other = tmp_path / "other.vhdx"
    other.write_bytes(b"vhdxfile")
    settings = boot_settings(name="box", image=str(other))
    with pytest.raises(NotVerifiedError) as error:
        imageverbs.named_image(settings, str(signers), unverified=False, progress=Progress(quiet=True))
    assert "--unverified" in error.value.hint
    assert imageverbs.named_image(settings, str(signers), unverified=True, progress=Progress(quiet=True)) is None
