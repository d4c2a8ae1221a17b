"""Updates with the stand-in for QEMU: they hold, or they go back by themselves, and what is refused stops nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from cofferdam import imageverbs, lifeverbs
from cofferdam.diagnose import collect
from cofferdam.errors import BootError, BuildError, InstanceError, UsageError
from cofferdam.image.build import publish
from cofferdam.image.model import Image, open_image
from cofferdam.machine import api, update
from cofferdam.machine.imageref import ORIGIN, Origin, image_store, reference
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.kept import Step, read_kept
from cofferdam.machine.newer import DowngradeError
from cofferdam.machine.selftest import SelfTestError
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.snapshots import snapshots
from cofferdam.machine.update import STEPS, UpdateUndoneError
from cofferdam.progress import Progress
from unit.host.machine import test_lifecycle as lifecycle
from unit.host.machine.test_lifecycle import Host
from unit.host.release.conftest import make_image

host = lifecycle.host
QUIET = Progress(quiet=True)


def installed(version: str, behaviour: str = "", **manifest: object) -> Image:
    """An image in the store, as if of a release; `behaviour` is how the stand-in boots it."""
    image_store().mkdir(exist_ok=True, parents=True)
    image = make_image(image_store() / version)
    changed = json.loads(image.manifest.read_text()) | manifest
    image.manifest.write_text(json.dumps(changed))
    origin = Origin(version=version, artefact="a.tar", sha256="a" * 64, verified=True, files={})
    (image.directory / ORIGIN).write_text(origin.model_dump_json())
    if behaviour:
        (image.directory / "behaviour").write_text(behaviour)
    return open_image(image.directory)


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Self-tests: the kernels that were running; an image with the file `broken` does not pass."""
    tested: list[str] = []

    def self_test(*_: object, isolated: bool) -> str:
        record = Instance("box").record
        assert record is not None and record.image is not None
        tested.append(record.image.version)
        if (Path(record.image.directory) / "broken").exists():
            raise SelfTestError("self-test: containers have ids of the VM")
        return f"isolated: {isolated}"

    monkeypatch.setattr(update, "self_test", self_test)
    return tested


@pytest.fixture
def box(host: Host) -> Instance:
    """An instance that runs release 1.0, with something on its data disk."""
    host.boot("kvm=ok", installed("1.0"))
    instance = Instance("box")
    with instance.data_disk.open("r+b") as disk:
        disk.write(b"data")
    return instance


def running(instance: Instance) -> str:
    """The version that runs; nothing when none does."""
    record = instance.record
    return record.image.version if instance.state() is State.RUNNING and record and record.image else ""


def boots(instance: Instance) -> str:
    """The version that the instance would boot."""
    found = api.image_to_boot(instance, BootSettings(name=instance.name))
    return reference(found).version


def state(instance: Instance) -> tuple[str, str, str]:
    kept = read_kept(instance)
    assert kept.current is not None
    return kept.current.version, kept.former.version if kept.former else "", kept.update.step if kept.update else ""


def test_an_update_keeps_data_disk_and_former_image(box, seen):
    done: list[str] = []
    outcome = update.update("box", installed("1.1"), QUIET, after=done.append)
    assert done == [name for name, _ in STEPS]
    assert (outcome.before.version, outcome.after.version, outcome.seen, seen) == ("1.0", "1.1", "isolated: True", ["1.1"])
    assert (running(box), boots(box), state(box)) == ("1.1", "1.1", ("1.1", "1.0", Step.CONFIRMED))
    assert box.data_disk.read_bytes()[:4] == b"data"
    assert outcome.report is not None and outcome.report.image == "1.1, verified"
    _, again = api.restart("box", QUIET)
    assert again.image == "1.1, verified", "a restart boots it again"
    assert state(box) == ("1.1", "1.0", "")


def test_an_update_of_a_stopped_instance_boots_it(box):
    api.stop("box")
    update.update("box", installed("1.1"), QUIET)
    assert running(box) == "1.1"


def test_nothing_to_do_is_no_error_and_stops_nothing(box):
    pid = box.record.pid
    outcome = update.update("box", open_image(image_store() / "1.0"), QUIET)
    assert (outcome.report, outcome.after.version) == (None, "1.0")
    assert box.record.pid == pid
    assert read_kept(box).update is None


def test_what_another_command_did_meanwhile_is_judged_as_well(box, monkeypatch):
    plain = update.prepare

    def meanwhile(*given: object) -> object:
        monkeypatch.setattr(update, "prepare", plain)
        update.update("box", installed("2.0"), QUIET)
        return plain(*given)

    monkeypatch.setattr(update, "prepare", meanwhile)
    with pytest.raises(DowngradeError):
        update.update("box", installed("1.1"), QUIET)
    assert (running(box), state(box)) == ("2.0", ("2.0", "1.0", Step.CONFIRMED))


@pytest.mark.parametrize("behaviour", ["panic", "exit", "failed"])
def test_an_image_that_does_not_get_ready_is_undone(box, behaviour, seen):
    with pytest.raises(UpdateUndoneError, match=r"the update to 1\.1 failed and was undone; 1\.0 runs again:") as error:
        update.update("box", installed("1.1", behaviour), QUIET)
    assert error.value.hint and error.value.exit_code == 5
    assert error.value.log is not None and error.value.log.exists()
    assert (running(box), boots(box), state(box)) == ("1.0", "1.0", ("1.0", "", Step.ROLLED_BACK))
    assert read_kept(box).update.reason
    assert seen == []
    assert box.data_disk.read_bytes()[:4] == b"data"
    update.update("box", installed("1.2"), QUIET)
    assert state(box) == ("1.2", "1.0", Step.CONFIRMED)


def test_an_image_that_fails_its_self_test_is_undone(box):
    image = installed("1.1")
    (image.directory / "broken").touch()
    with pytest.raises(UpdateUndoneError, match="containers have ids of the VM"):
        update.update("box", image, QUIET)
    assert (running(box), state(box)) == ("1.0", ("1.0", "", Step.ROLLED_BACK))


def test_an_undone_update_of_a_stopped_instance_leaves_it_stopped(box):
    api.stop("box")
    with pytest.raises(UpdateUndoneError, match=r"1\.0 is booted by `inv boot --name box`"):
        update.update("box", installed("1.1", "panic"), QUIET)
    assert box.state() is State.STOPPED
    assert api.boot(BootSettings(name="box"), QUIET).image == "1.0, verified"


def test_a_former_image_that_does_not_boot_either_is_told_with_both_reasons(box):
    (image_store() / "1.0/behaviour").write_text("failed")
    with pytest.raises(BootError, match=r"(?s)so did the boot of 1\.0.*docker.service failed.*The update failed with:.*panicked"):
        update.update("box", installed("1.1", "panic"), QUIET)
    assert box.state() is State.STOPPED
    assert state(box) == ("1.0", "", Step.ROLLED_BACK)


def test_a_bug_in_a_step_is_undone_as_well(box, monkeypatch):
    monkeypatch.setattr(update, "self_test", lambda *_, **__: 1 / 0)
    with pytest.raises(UpdateUndoneError, match="division by zero"):
        update.update("box", installed("1.1"), QUIET)
    assert running(box) == "1.0"


def test_an_interrupt_takes_the_new_image_back_and_boots_nothing(box, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(update, "self_test", interrupted)
    with pytest.raises(KeyboardInterrupt):
        update.update("box", installed("1.1"), QUIET)
    assert (box.state(), state(box)) == (State.STOPPED, ("1.0", "", Step.ROLLED_BACK))


def test_what_is_refused_stops_nothing(box, tmp_path):
    pid, before = box.record.pid, read_kept(box)
    debug = installed("1.3", profile="debug")
    with pytest.raises(DowngradeError, match=r"0\.9 is older than 1\.0"):
        update.update("box", installed("0.9"), QUIET)
    with pytest.raises(UsageError, match="of the profile debug"):
        update.update("box", debug, QUIET)
    (image_store() / "1.0").rename(tmp_path / "away")
    with pytest.raises(BuildError, match="is not an image"):
        update.update("box", installed("1.1"), QUIET)
    assert (box.record.pid, read_kept(box)) == (pid, before)
    (tmp_path / "away").rename(image_store() / "1.0")
    update.update("box", open_image(image_store() / "0.9"), QUIET, allow_downgrade=True)
    assert running(box) == "0.9"


def newer_disk(instance: Instance) -> None:
    """A label of the next format, where the superblock has it."""
    with instance.data_disk.open("r+b") as disk:
        disk.seek(1024 + 0x38)
        disk.write(b"\x53\xef")
        disk.seek(1024 + 0x78)
        disk.write(b"cofferdam-data2\0")


def test_a_data_disk_of_a_newer_format_is_not_booted(box):
    newer_disk(box)
    api.stop("box")
    with pytest.raises(InstanceError, match="has format 2; the image"):
        api.boot(BootSettings(name="box"), QUIET)
    assert box.state() is State.STOPPED


def test_a_data_disk_of_a_newer_format_is_refused_while_the_machine_runs(box):
    new = installed("1.1", data_format=2)
    newer_disk(box)
    for attempt in (
        lambda: update.update("box", installed("1.2"), QUIET, allow_downgrade=True),
        lambda: api.restart("box", QUIET),
    ):
        with pytest.raises(InstanceError, match="has format 2; the image"):
            attempt()
        assert running(box) == "1.0", "nothing was stopped"
    update.update("box", new, QUIET)
    with pytest.raises(InstanceError, match=r"the image 1\.0 knows formats up to 1"):
        update.rollback("box", QUIET)
    assert running(box) == "1.1"


def test_a_new_image_that_changed_the_format_and_failed_is_told(box, monkeypatch):
    def changed(*_: object, **__: object) -> None:
        newer_disk(box)
        raise SelfTestError("self-test: no")

    monkeypatch.setattr(update, "self_test", changed)
    with pytest.raises(BootError, match=r"(?s)so did the boot of 1\.0.*has format 2"):
        update.update("box", installed("1.1", data_format=2), QUIET)


def test_rollback_goes_back_and_forth(box):
    with pytest.raises(InstanceError, match="has no former image") as error:
        update.rollback("box", QUIET)
    assert error.value.hint
    update.update("box", installed("1.1"), QUIET)
    assert update.rollback("box", QUIET).after.version == "1.0"
    assert (running(box), state(box)) == ("1.0", ("1.0", "1.1", Step.CONFIRMED))
    update.rollback("box", QUIET)
    assert running(box) == "1.1"


def test_a_snapshot_is_of_the_disk_as_it_was(box):
    outcome = update.update("box", installed("1.1"), QUIET, snapshot=True)
    (found,) = snapshots("box")
    assert found.label == outcome.snapshot
    assert found.path.read_bytes()[:4] == b"data"


def test_instances_that_cannot_be_updated():
    with pytest.raises(InstanceError, match="there is no instance `box`"):
        update.update("box", installed("1.1"), QUIET)
    Instance("box").create()
    with pytest.raises(InstanceError, match="nobody knows which image"):
        update.update("box", installed("1.2"), QUIET)


def test_another_command_has_to_wait_and_a_stop_ends_the_update(box, monkeypatch):
    def stopped(*_: object, **__: object) -> None:
        with pytest.raises(InstanceError, match="another command"), box.claim("boot", timeout=0.1):
            pass
        assert "an update to 1.1 is under way" in api.status("box")[0]["note"]
        box.want_stop(True)
        raise SelfTestError("self-test: the machine has ended")

    monkeypatch.setattr(update, "self_test", stopped)
    with pytest.raises(UpdateUndoneError, match="is booted by"):
        update.update("box", installed("1.1"), QUIET)
    assert box.state() is State.STOPPED, "who stops it does not want the former one to be booted"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache/image").mkdir(parents=True)
    return tmp_path / "cache/image"


def test_images_that_are_built_here_follow_each_other_until_an_update_chooses_one(host, cache, capsys):
    def built(name: str) -> None:
        make_image(cache / name)
        publish("default", cache / name)

    def booted() -> str:
        return Path(Instance("box").record.image.directory).name

    settings, box = BootSettings(name="box"), Instance("box")
    built("a")
    host.boot("kvm=ok", open_image(cache / "a"))
    built("b")
    api.restart("box", QUIET)
    assert booted() == "b"
    built("c")
    imageverbs.update("box")
    assert booted() == "c"
    built("d")
    _, report = api.restart("box", QUIET)
    assert booted() == "c", "it was chosen"
    assert any("another one was built: `inv update --name box`" in note for note in report.notes)
    imageverbs.rollback("box")
    assert booted() == "b"
    (cache / "d/behaviour").write_text("panic")
    with pytest.raises(UpdateUndoneError):
        imageverbs.update("box")
    api.stop("box")
    api.boot(settings, QUIET)
    assert booted() == "b", "not the one that failed, although it is the latest"
    api.stop("box")
    built("e")
    api.boot(settings, QUIET, open_image(cache / "e"), follow=True)
    built("f")
    _, report = api.restart("box", QUIET)
    assert booted() == "f"
    assert not any("another one was built" in note for note in report.notes)
    assert read_kept(box).pinned is False
    assert "rollback --name box" in capsys.readouterr().out


def test_a_build_that_failed_is_not_what_boots_next_although_it_is_the_latest(host, cache):
    host.boot("kvm=ok", make_image(cache / "a"))
    (make_image(cache / "b").directory / "behaviour").write_text("panic")
    publish("default", cache / "b")
    with pytest.raises(UpdateUndoneError):
        imageverbs.update("box")
    _, report = api.restart("box", QUIET)
    assert Path(Instance("box").record.image.directory).name == "a"
    assert any("another one was built" in note for note in report.notes)


def test_another_profile_that_is_asked_for_is_booted(box, cache):
    api.stop("box")
    make_image(cache / "debug")
    manifest = json.loads((cache / "debug/manifest.json").read_text()) | {"profile": "debug"}
    (cache / "debug/manifest.json").write_text(json.dumps(manifest))
    publish("debug", cache / "debug")
    assert api.boot(BootSettings(name="box", profile="debug"), QUIET).profile == "debug"
    kept = read_kept(box)
    assert (kept.pinned, kept.former.version) == (False, "1.0")


def test_status_list_and_diagnosis_know_the_images(box, capsys):
    update.update("box", installed("1.1"), QUIET)
    row = api.status("box")[0]
    assert (row["image"]["version"], row["former_image"]["version"], row["update"]["step"]) == ("1.1", "1.0", "confirmed")
    lifeverbs.list_instances()
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["box", "running", "default", "1.1"]
    made = {each.part.name: each.content for each in collect(box)}
    assert json.loads(made["images.json"])["current"]["version"] == "1.1"
    assert json.loads(made["manifest.json"])["data_format"] if "data_format" in made["manifest.json"] else True
    api.delete("box")
    assert read_kept(box).references() == []


def test_a_damaged_file_is_told_and_status_goes_on(box):
    (box.directory / "images.json").write_text("{")
    assert "images.json is damaged" in api.status("box")[0]["note"]
    with pytest.raises(InstanceError, match="is damaged") as error:
        api.restart("box", QUIET)
    assert error.value.hint
    assert box.state() is State.RUNNING


def test_what_nobody_verified_is_said_as_long_as_it_runs(box, host):
    image = installed("1.1")
    origin = json.loads((image.directory / ORIGIN).read_text()) | {"verified": False}
    (image.directory / ORIGIN).write_text(json.dumps(origin))
    api.stop("box")
    report = api.boot(BootSettings(name="box"), Progress(Console(file=host.output)), image)
    assert "image          1.1, NOT VERIFIED" in report.lines()
    assert "its image 1.1 was not verified" in api.status("box")[0]["note"]
