"""Every format boots, and one flipped byte of kernel, command line, root or hashes does not: nothing of it is run or read."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cofferdam.errors import BootError
from cofferdam.image.formats import make_artefact
from cofferdam.image.model import MANIFEST, Image, open_image
from cofferdam.image.securekey import new_secure_boot_key
from cofferdam.image.signing import load_signer
from cofferdam.machine import api, launch, prepare
from cofferdam.machine.firmware import BootDisk
from cofferdam.machine.instance import Instance, State
from cofferdam.progress import Progress
from cofferdam.tools.tree import ensure_image_tools
from vmtest.machines import Machines
from vmtest.vm import Vm

pytestmark = [pytest.mark.vm, pytest.mark.slow]

NAME = "formats"
QUIET = Progress(quiet=True)
REFUSED = "Secure Boot refused the disk"
CORRUPTED = r"verification failed: (data|metadata) block \d+ of the root file system is not what was built"


@pytest.fixture(scope="module")
def image(machines: Machines) -> Image:
    return machines.image("debug")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_secure_boot_key(tmp_path_factory.mktemp("keys"))[0].parent


@pytest.fixture
def boot(machines: Machines) -> Iterator[Callable[..., Vm]]:
    """Boot the one instance of these tests."""

    def start(**settings: object) -> Vm:
        return machines.boot(NAME, "debug", **{"memory": "1G", "cpus": 1, **settings})

    yield start
    if Instance(NAME).state() not in (State.ABSENT, State.STOPPED):
        api.stop(NAME)


@pytest.fixture
def copied(image: Image, tmp_path: Path) -> Iterator[Path]:
    """A copy of the image's files; too large to be kept."""
    directory = tmp_path / "copy"
    shutil.copytree(image.directory, directory)
    yield directory
    shutil.rmtree(directory)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def partitions(disk: Path) -> list[int]:
    """Where the partitions begin, in bytes."""
    with disk.open("rb") as file:
        file.seek(1024)
        return [struct.unpack_from("<Q", file.read(128), 32)[0] * 512 for _ in range(3)]


def place(disk: Path, text: bytes) -> int:
    """Where a text stands on the system partition."""
    system, root, _ = partitions(disk)
    with disk.open("rb") as file:
        file.seek(system)
        found = file.read(root - system).find(text)
    assert found >= 0
    return system + found


def test_all_disks_hold_the_same_bytes(image: Image) -> None:
    raw = make_artefact(image, "raw", QUIET).path
    for format in ("qcow2", "vhdx"):
        other = make_artefact(image, format, QUIET).path
        words = ["qemu-img", "compare", "-f", "raw", "-F", format, "/raw", "/other"]
        done = ensure_image_tools(QUIET).run(words, binds={raw: "/raw", other: "/other"}, capture=True)
        assert "Images are identical." in done.stdout
        assert other.stat().st_size < raw.stat().st_size
    _, root, hashes = partitions(raw)
    assert image.verity is not None and image.hashes is not None
    with raw.open("rb") as file:
        for start, content in ((root, image.root), (hashes, image.hashes)):
            file.seek(start)
            assert file.read(content.stat().st_size) == content.read_bytes()


@pytest.mark.parametrize("format", ["qcow2", "vhdx"])
def test_a_disk_boots(image: Image, boot: Callable[..., Vm], format: str) -> None:
    vm = boot(format=format)
    looks_verified(vm, image)


def looks_verified(vm: Vm, image: Image) -> None:
    assert image.verity is not None
    words = vm.shell("cat /proc/cmdline")
    assert image.verity.root_hash in words and words.strip().endswith(" --")
    assert vm.shell("cat /sys/block/dm-0/dm/name; ls /sys/block/dm-0/slaves; cat /sys/block/dm-0/ro").split() == [
        "root",
        "vda2",
        "vda3",
        "1",
    ]
    assert vm.host.mount_point("/").filesystem == "erofs"
    assert vm.shell("ls -d /sys/firmware/efi").strip() == "/sys/firmware/efi"


def test_a_signed_disk_boots_and_takes_no_words_for_its_kernel(
    image: Image, boot: Callable[..., Vm], keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stub appends what SMBIOS says, signed or not: it goes to the first process and not to the kernel."""
    more = tmp_path / "more"
    more.write_bytes(b"io.systemd.stub.kernel-cmdline-extra=panic=7 root=/dev/vdb")
    plain = launch._spec

    def extended(*given: Any) -> Any:
        spec = plain(*given)
        return replace(spec, credentials=[*spec.credentials, more])

    monkeypatch.setattr(launch, "_spec", extended)
    vm = boot(format="raw", secure_boot=str(keys))
    assert vm.shell("cat /proc/cmdline").strip().endswith(" -- panic=7 root=/dev/vdb")
    assert vm.shell("cat /proc/sys/kernel/panic").strip() == "-1"
    assert "Secure boot enabled" in vm.shell("dmesg")
    assert vm.shell("cat /sys/block/dm-0/dm/name").strip() == "root"


@pytest.mark.parametrize("part", ["kernel", "command line", "root"])
def test_a_flipped_byte_on_a_signed_disk_ends_the_boot(
    image: Image, boot: Callable[..., Vm], keys: Path, copied: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    disk = copied / "disk.raw"
    shutil.copyfile(make_artefact(image, "raw", QUIET, signer=load_signer(str(keys))).path, disk)
    assert image.verity is not None
    offset = {
        "kernel": place(disk, b"HdrS") + 2**20,
        "command line": place(disk, image.verity.root_hash.encode()),
        "root": partitions(disk)[1] + 1024,
    }[part]
    flip(disk, offset)
    chosen = prepare.boot_disk

    def copy(*given: Any) -> BootDisk:
        found = chosen(*given)
        assert found is not None
        return replace(found, path=disk)

    monkeypatch.setattr(prepare, "boot_disk", copy)
    with pytest.raises(BootError, match=CORRUPTED if part == "root" else REFUSED):
        boot(format="raw", secure_boot=str(keys))


@pytest.mark.parametrize("part", ["root", "hashes", "root hash"])
def test_a_flipped_byte_ends_a_direct_boot(
    copied: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch, boot: Callable[..., Vm], part: str
) -> None:
    image = open_image(copied)
    assert image.verity is not None and image.hashes is not None
    if part == "root":
        flip(image.root, 1024)
    elif part == "hashes":
        flip(image.hashes, 4096)
    else:
        manifest = copied / MANIFEST
        manifest.write_text(manifest.read_text().replace(image.verity.root_hash, image.verity.root_hash[::-1]))
    changed = open_image(copied)
    monkeypatch.setattr(machines, "image", lambda _: changed)
    with pytest.raises(BootError, match=CORRUPTED):
        boot()
