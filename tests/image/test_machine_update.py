"""A release is booted, updated, tampered with, broken and killed on one instance; what its containers wrote is there all the time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam.image.model import MANIFEST
from cofferdam.machine import api
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.kept import read_kept
from cofferdam.paths import ROOT
from vmtest.flows import wait_until
from vmtest.machines import Machines
from vmtest.shop import Shop, docker, versions
from vmtest.verbs import SMALL, done, inv, row

pytestmark = [pytest.mark.vm, pytest.mark.slow]

NAME = "updated"
NAMED = ("--name", NAME)
BOOT = ("boot", *NAMED, *SMALL, "--share", "none", "--proxy", "none", "--no-activate")


@pytest.fixture(scope="module")
def shop(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The tests of this module follow each other."""
    home = tmp_path_factory.mktemp("shop")
    yield Shop(home, machines.image("default"))
    if Instance(NAME).state() not in (State.ABSENT, State.DELETED):
        api.stop(NAME, force=True)
    inv("delete", *NAMED, "--data", "--yes")
    # Some hundred megabytes, which pytest would keep.
    shutil.rmtree(home)


def words_of_the_kernel() -> list[str]:
    return docker(NAME, "cat", "/proc/cmdline").split()


def test_a_release_is_booted_and_known_again(shop: Shop) -> None:
    folder = shop.release("1.0.0")
    said = done(*BOOT, "--image", str(folder), "--key", str(shop.signers))
    assert "image          1.0.0, verified" in said
    docker(NAME, "sh", "-c", "echo before >/data/note; sync")
    found = row(NAME)
    assert (found["image"]["version"], found["image"]["verified"], found["profile"]) == ("1.0.0", True, "default")
    shutil.rmtree(folder)


def test_what_was_tampered_with_is_refused_and_nothing_is_stopped(shop: Shop) -> None:
    folder, pid = shop.release("1.1.0"), row(NAME)["pid"]
    archive = folder / "cofferdam-1.1.0-default-direct.tar"
    place = archive.stat().st_size // 2
    with archive.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))
    for words in (("update", *NAMED), ("boot", "--name", "never")):
        refused = inv(*words, "--image", str(folder), "--key", str(shop.signers))
        assert refused.returncode == 1, refused.stderr
        assert "cannot be trusted" in refused.stderr and "is not the file that was released" in refused.stderr
    unsigned = inv("update", *NAMED, "--image", str(folder))
    assert unsigned.returncode == 1 and "signature:" in unsigned.stderr
    assert Instance("never").state() is State.ABSENT
    assert row(NAME)["pid"] == pid
    with archive.open("r+b") as file:
        file.seek(place)
        file.write(byte)


def test_an_update_boots_the_new_image_with_the_same_data(shop: Shop) -> None:
    said = done("update", *NAMED, "--image", str(shop.home / "1.1.0"), "--key", str(shop.signers))
    assert "self-test      a container's root is id " in said
    assert "updated        from 1.0.0, verified to 1.1.0, verified" in said
    assert "cofferdam.release=1.1.0" in words_of_the_kernel()
    assert docker(NAME, "cat", "/data/note") == "before"
    assert versions(NAME) == ("1.1.0", "1.0.0", "confirmed")
    again = done("update", *NAMED, "--image", str(shop.home / "1.1.0"), "--key", str(shop.signers))
    assert "there is nothing to do" in again
    docker(NAME, "sh", "-c", "echo after >>/data/note; sync")


def test_a_killed_update_is_undone_by_the_next_command(shop: Shop) -> None:
    folder, instance = shop.release("1.2.0"), Instance(NAME)
    words = ["update", *NAMED, "--image", str(folder), "--key", str(shop.signers)]
    command = subprocess.Popen([sys.executable, "-m", "invoke", *words], cwd=ROOT, stdin=subprocess.DEVNULL)

    def new_one_is_there() -> bool:
        record = instance.record
        return bool(record and record.image and record.image.version == "1.2.0") or command.poll() is not None

    try:
        wait_until(new_one_is_there, "QEMU has the new image", seconds=180, pause=0.02)
    finally:
        command.send_signal(signal.SIGKILL)
        status = command.wait()
    assert status == -signal.SIGKILL
    assert versions(NAME) == ("1.1.0", "1.0.0", "planned")
    found = row(NAME)
    assert found["state"] == "stopped"
    assert "the update to 1.2.0 was interrupted and is undone" in found["note"]
    assert versions(NAME) == ("1.1.0", "1.0.0", "rolled back")


def test_an_image_that_does_not_boot_is_undone_by_itself(shop: Shop) -> None:
    done(*BOOT)
    assert docker(NAME, "cat", "/data/note").split() == ["before", "after"]
    refused = inv("update", *NAMED, "--image", str(shop.home / "1.2.0"), "--key", str(shop.signers))
    assert refused.returncode == 5, refused.stderr
    assert "the update to 1.2.0 failed and was undone; 1.1.0 runs again:" in refused.stderr
    assert "kernel panicked" in refused.stderr
    assert versions(NAME) == ("1.1.0", "1.0.0", "rolled back")
    assert "cofferdam.release=1.1.0" in words_of_the_kernel()
    assert docker(NAME, "cat", "/data/note").split() == ["before", "after"]


def test_a_data_disk_of_a_newer_format_is_refused_by_host_and_guest(shop: Shop) -> None:
    """The label is changed by hand, past the checksum of the superblock: both have to judge it before anybody uses it."""
    done("stop", *NAMED)
    disk = Instance(NAME).data_disk
    _label(disk, b"cofferdam-data2\0")
    refused = inv(*BOOT)
    assert refused.returncode == 6
    assert "has format 2; the image 1.1.0 knows formats up to 1" in refused.stderr
    newer = Path(read_kept(Instance(NAME)).current.directory) / MANIFEST
    manifest = json.loads(newer.read_text())
    newer.write_text(json.dumps(manifest | {"data_format": 2}))
    refused = inv(*BOOT)
    assert refused.returncode == 5
    assert "the data disk has format 2, and this image knows formats up to 1" in refused.stderr
    _label(disk, b"cofferdam-data\0\0")


def _label(disk: Path, text: bytes) -> None:
    handle = os.open(disk, os.O_RDWR)
    try:
        assert os.pread(handle, 14, 1024 + 0x78) == b"cofferdam-data"
        os.pwrite(handle, text, 1024 + 0x78)
    finally:
        os.close(handle)
