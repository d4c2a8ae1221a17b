"""A data disk that is sealed to a TPM: made, opened again, opened by an update, and by nothing else."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cofferdam.errors import BootError, InstanceError
from cofferdam.image.model import MANIFEST, Image, Manifest, open_image
from cofferdam.image.securekey import new_secure_boot_key
from cofferdam.machine import api
from cofferdam.machine.dataformat import luks_label
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.resize import resize
from cofferdam.machine.settings import resize_sizes
from cofferdam.machine.tpm.server import tpm_ended
from cofferdam.run import run
from vmtest.machines import Machines
from vmtest.vm import Vm

pytestmark = [pytest.mark.vm, pytest.mark.slow]

NAME = "measured"
SHUT = "the TPM does not open the data disk"
HEAD = 16 * 2**20


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_secure_boot_key(tmp_path_factory.mktemp("keys"))[0].parent


def booted(machines: Machines, keys: Path, **settings: object) -> Vm:
    """Boot the one instance of these tests from a signed disk with a TPM."""
    usual = {"memory": "1G", "cpus": 1, "format": "raw", "secure_boot": str(keys), "tpm": True}
    return machines.boot(NAME, "debug", **{**usual, **settings})


@pytest.fixture
def boot(machines: Machines, keys: Path) -> Iterator[Callable[..., Vm]]:
    """As `booted`; the instance is deleted with its data at the end."""
    yield lambda **settings: booted(machines, keys, **settings)
    if Instance(NAME).state() is not State.ABSENT:
        api.delete(NAME, data=True)


@pytest.fixture(scope="module")
def kept(machines: Machines, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an instance as it was when it stopped: its first boot sealed a disk, which got a file and was enlarged."""
    vm, instance = booted(machines, keys, data_disk="1G"), Instance(NAME)
    vm.shell("echo precious >/var/lib/mine; sync")
    resize(NAME, resize_sizes(data_disk="2G"))
    api.stop(NAME)
    place = tmp_path_factory.mktemp("kept") / NAME
    run(["cp", "--archive", "--sparse=always", instance.directory, place])
    api.delete(NAME, data=True)
    return place


@pytest.fixture
def sealed(kept: Path, boot: Callable[..., Vm]) -> Instance:
    """A stopped instance with a sealed data disk that holds a file."""
    instance = Instance(NAME)
    run(["cp", "--archive", "--sparse=always", kept, instance.directory])
    return instance


@pytest.fixture
def changed(machines: Machines, tmp_path: Path) -> Iterator[Callable[[str], Image]]:
    """Make images that have a further word on their command line."""
    usual, made = machines.image("debug"), []

    def make(word: str) -> Image:
        directory = tmp_path / f"image{len(made)}"
        shutil.copytree(usual.directory, directory)
        made.append(directory)
        manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
        words = {"cmdline": [*manifest.cmdline, word]}
        (directory / MANIFEST).write_text(manifest.model_copy(update=words).model_dump_json(indent=1), encoding="utf-8")
        return open_image(directory)

    yield make
    for directory in made:
        shutil.rmtree(directory)


def refused(instance: Instance, boot: Callable[..., Vm], said: str, **settings: object) -> None:
    """A boot that is refused, and has written nothing to the disk's head, which the keys are in."""
    with instance.data_disk.open("rb") as disk:
        before = disk.read(HEAD)
    with pytest.raises((BootError, InstanceError), match=said):
        boot(**settings)
    with instance.data_disk.open("rb") as disk:
        assert disk.read(HEAD) == before


def test_a_disk_is_sealed_on_its_first_boot_and_opened_by_its_tpm_on_the_next(sealed: Instance, boot: Callable[..., Vm]) -> None:
    assert luks_label(sealed.data_disk) == "cofferdam-data"
    with sealed.data_disk.open("rb") as disk:
        assert b"precious" not in disk.read()
    sealed.recovery_key.unlink()
    vm = boot()
    assert vm.shell("cat /var/lib/mine").strip() == "precious"
    assert vm.shell("findmnt -no SOURCE /var").strip() == "/dev/mapper/cofferdam-data"
    assert "discard" in vm.shell("findmnt -no OPTIONS /var")
    assert int(vm.shell("df --output=size -B1M /var | tail -1")) > 1500
    (row,) = api.status(NAME)
    assert row["data_disk"]["sealed"] is True


def test_an_image_signed_by_the_same_key_opens_it_and_no_other_does(
    sealed: Instance,
    boot: Callable[..., Vm],
    changed: Callable[[str], Image],
    machines: Machines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = changed("quiet")
    monkeypatch.setattr(machines, "image", lambda _: later)
    assert boot().shell("cat /var/lib/mine").strip() == "precious", "a later image: another PCR 11, signed"
    api.stop(NAME)
    other = new_secure_boot_key(tmp_path / "other")[0].parent
    refused(sealed, boot, SHUT, secure_boot=str(other))
    refused(sealed, boot, "is sealed to a TPM", tpm=False)


def test_a_signature_for_another_command_line_does_not_open_it(
    sealed: Instance,
    boot: Callable[..., Vm],
    changed: Callable[[str], Image],
    machines: Machines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Signed for Secure Boot by the right key, but with the signature for the TPM of another image."""
    from cofferdam.image import formats

    make, first = formats.make_seal, []

    def kept(*given: Any) -> Path:
        path = make(*given)
        first.append(path.read_bytes())
        path.write_bytes(first[0])
        return path

    monkeypatch.setattr(formats, "make_seal", kept)
    for word in ("first=1", "second=2"):
        image = changed(word)
        monkeypatch.setattr(machines, "image", lambda _, image=image: image)
        if word == "first=1":
            boot()
            api.stop(NAME)
    refused(sealed, boot, SHUT)


def test_the_recovery_key_opens_it_without_its_tpm_and_seals_it_anew(
    sealed: Instance, boot: Callable[..., Vm], tmp_path: Path
) -> None:
    key = sealed.recovery_key.rename(tmp_path / "safe")
    for path in sealed.tpm_state.iterdir():
        path.unlink()
    refused(sealed, boot, "whose state is gone")
    assert boot(recovery_key=str(key)).shell("cat /var/lib/mine").strip() == "precious"
    api.stop(NAME)
    assert boot().shell("cat /var/lib/mine").strip() == "precious"


def test_a_tpm_that_ends_is_told_and_the_next_boot_has_another(sealed: Instance, boot: Callable[..., Vm]) -> None:
    vm, record = boot(), sealed.record
    assert record is not None and record.tpm is not None
    os.kill(record.tpm.pid, signal.SIGKILL)
    assert wait_until(lambda: tpm_ended(record), 10)
    (row,) = api.status(NAME)
    assert "its TPM has ended" in row["note"]
    assert vm.shell("cat /var/lib/mine").strip() == "precious"
    api.stop(NAME)
    assert boot().shell("cat /var/lib/mine").strip() == "precious"
    record = sealed.record
    assert record is not None and not tpm_ended(record)
    sealed.kill()
    assert wait_until(lambda: tpm_ended(record), 10), "swtpm ends with its machine"


def test_a_plain_disk_is_not_converted(boot: Callable[..., Vm]) -> None:
    boot(tpm=False, data_disk="1G")
    api.stop(NAME)
    refused(Instance(NAME), boot, "is not converted")
