"""A TPM's options, what it asks of a data disk, its recovery key, and its process."""

from __future__ import annotations

import socket
import stat
import sys

import pytest

from cofferdam.errors import BootError, InstanceError, UsageError
from cofferdam.guestconfig import seal
from cofferdam.image.securekey import new_secure_boot_key
from cofferdam.machine import boot as booting
from cofferdam.machine import launch, prepare
from cofferdam.machine.dataformat import NewerDataError, disk_format, luks_label, refuse_newer
from cofferdam.machine.firmware import boot_disk
from cofferdam.machine.hostos import process_start
from cofferdam.machine.instance import ServedTpm, State
from cofferdam.machine.settings import boot_settings
from cofferdam.machine.stored import bury, remember, take_again
from cofferdam.machine.stored import latest as latest_boot
from cofferdam.machine.tpm.sealing import check_key_size, key_to_hand_over
from cofferdam.machine.tpm.server import program, server_arguments, serving, tpm_ended
from cofferdam.progress import Progress
from cofferdam.run import spawn
from unit.host.machine import test_lifecycle as lifecycle

host = lifecycle.host
TPM = boot_settings(tpm=True, format="raw", secure_boot="keys")
PLAIN = boot_settings()


def sealed(label: str, version: int = 2) -> bytes:
    """The head of an encrypted disk, as `cryptsetup luksFormat` writes it."""
    head = b"LUKS\xba\xbe" + version.to_bytes(2, "big") + bytes(16) + label.encode().ljust(48, b"\0")
    return head.ljust(4096, b"\0")


def plain(label: str) -> bytes:
    head = bytearray(4096)
    head[1024 + 0x38 : 1024 + 0x3A] = b"\x53\xef"
    head[1024 + 0x78 : 1024 + 0x88] = label.encode().ljust(16, b"\0")
    return bytes(head)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tpm": True}, "--tpm with a direct boot: .* nothing measures"),
        ({"tpm": True, "secure_boot": "keys"}, "--tpm with a direct boot"),
        ({"tpm": True, "format": "raw"}, "--tpm without --secure-boot"),
        ({"recovery_key": "file"}, "--recovery-key without --tpm"),
    ],
)
def test_a_tpm_that_could_measure_nothing_is_refused_before_anything_is_built(values, said):
    with pytest.raises(UsageError, match=said) as caught:
        boot_disk(boot_settings(**values), object(), Progress(quiet=True))
    assert "--secure-boot" in caught.value.hint or "--tpm" in caught.value.hint or "Give both" in caught.value.hint


def test_a_key_that_not_every_tpm_knows_is_refused(tmp_path, monkeypatch):
    check_key_size(new_secure_boot_key(tmp_path / "usual")[1])
    monkeypatch.setattr("cofferdam.image.securekey._BITS", 3072)
    with pytest.raises(UsageError, match="3072 bits"):
        check_key_size(new_secure_boot_key(tmp_path / "larger")[1])


@pytest.mark.parametrize(
    ("head", "label", "number"),
    [
        (sealed("cofferdam-data"), "cofferdam-data", 1),
        (sealed("cofferdam-data7"), "cofferdam-data7", 7),
        (sealed(seal.MAKING), seal.MAKING, None),
        (sealed("somebody's"), "somebody's", None),
        (sealed("cofferdam-data", version=1), "", None),
        (plain("cofferdam-data"), None, 1),
        (bytes(4096), None, None),
        (b"LUKS", None, None),
    ],
)
def test_the_label_of_a_sealed_disk_is_read_without_its_key(tmp_path, head, label, number):
    path = tmp_path / "data.raw"
    path.write_bytes(head)
    assert (luks_label(path), disk_format(path)) == (label, number)
    if number == 7:
        with pytest.raises(NewerDataError, match="format 7"):
            refuse_newer(path, 1, "default")


def test_the_first_boot_makes_a_key_and_a_killed_one_finds_it_again(instance):
    key, (note,) = key_to_hand_over(instance, TPM)
    assert key is not None and len(key.split(b"-")) == 8 and str(instance.recovery_key) in note
    assert stat.S_IMODE(instance.recovery_key.stat().st_mode) == 0o600
    instance.data_disk.write_bytes(bytes(4096))
    assert key_to_hand_over(instance, TPM)[0] == key
    instance.data_disk.write_bytes(sealed(seal.MAKING))
    assert key_to_hand_over(instance, TPM)[0] == key


def test_a_sealed_disk_is_left_to_its_tpm(instance):
    instance.data_disk.write_bytes(sealed("cofferdam-data"))
    with pytest.raises(InstanceError, match="state is gone") as caught:
        key_to_hand_over(instance, TPM)
    assert "--recovery-key" in caught.value.hint
    instance.tpm_state.mkdir()
    (instance.tpm_state / "tpm2-00.permall").touch()
    instance.recovery_key.write_text("not handed over")
    assert key_to_hand_over(instance, TPM) == (None, [])
    with pytest.raises(InstanceError, match="is sealed to a TPM") as caught:
        key_to_hand_over(instance, PLAIN)
    assert "--tpm" in caught.value.hint


def test_a_plain_disk_is_never_converted(instance):
    instance.data_disk.write_bytes(plain("cofferdam-data"))
    assert key_to_hand_over(instance, PLAIN) == (None, [])
    with pytest.raises(InstanceError, match="is not converted") as caught:
        key_to_hand_over(instance, TPM)
    assert "without --tpm" in caught.value.hint
    assert not instance.recovery_key.exists()


def test_a_recovery_key_is_what_the_first_boot_has_written(instance, tmp_path):
    key, _ = key_to_hand_over(instance, TPM)
    instance.data_disk.write_bytes(sealed("cofferdam-data"))
    moved = instance.recovery_key.rename(tmp_path / "safe")
    again = boot_settings(tpm=True, format="raw", secure_boot="keys", recovery_key=str(moved))
    assert key_to_hand_over(instance, again)[0] == key
    moved.write_text("something else")
    with pytest.raises(UsageError, match="no recovery key"):
        key_to_hand_over(instance, again)


def test_a_later_boot_has_the_tpm_again_and_not_the_key(instance, tmp_path):
    remember(instance, boot_settings(tpm=True, format="raw", secure_boot="keys", recovery_key=str(tmp_path / "safe")))
    assert latest_boot(instance).tpm is True and latest_boot(instance).recovery_key is None


def test_what_opens_the_disk_is_kept_as_long_as_the_disk(instance):
    instance.data_disk.write_bytes(sealed("cofferdam-data"))
    instance.tpm_state.mkdir()
    instance.recovery_key.touch()
    instance.tpm_log.touch()
    bury(instance)
    take_again(instance)
    assert instance.tpm_state.is_dir() and instance.recovery_key.exists() and not instance.tpm_log.exists()


def test_swtpm_is_started_by_the_trees_loader_in_the_directory_of_its_state(tmp_path):
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    (libraries / "ld-linux-x86-64.so.2").touch()
    words = program(tmp_path)
    assert words[0] == str(libraries / "ld-linux-x86-64.so.2")
    assert words[2] == f"{libraries}:{libraries / 'swtpm'}"
    assert server_arguments(words, 7) == [
        *words,
        *("socket", "--tpm2", "--tpmstate", "dir=.,mode=0600", "--ctrl", "type=unixio,fd=7", "--terminate"),
    ]


STANDS_IN = """
import os, socket, sys
open("arguments", "w").write(" ".join(sys.argv[1:]))
listening = socket.socket(fileno=int(sys.argv[-2].rpartition("=")[2]))
listening.accept()[0].sendall(b"ready")
listening.accept()
"""


def test_a_tpm_is_reached_by_its_socket_keeps_its_state_by_itself_and_ends_with_a_boot_that_fails(instance):
    words = [sys.executable, "-c", STANDS_IN]
    with pytest.raises(KeyboardInterrupt), serving(words, instance) as tpm:
        with socket.socket(socket.AF_UNIX) as qemu:
            qemu.settimeout(10)
            qemu.connect(str(tpm.socket))
            assert qemu.recv(5) == b"ready"
        assert (instance.tpm_state / "arguments").read_text().startswith("socket --tpm2 --tpmstate dir=.")
        assert stat.S_IMODE(instance.tpm_state.stat().st_mode) == 0o700
        assert tpm.process.poll() is None
        raise KeyboardInterrupt
    assert tpm.process.poll() is not None
    with serving((), instance) as none:
        assert none is None


def test_a_tpm_without_a_machine_is_ended_with_the_rest(instance, record):
    process = spawn([sys.executable, "-c", "import time; time.sleep(60)"])
    record.tpm = ServedTpm(pid=process.pid, process_start=process_start(process.pid))
    instance.write_record(record)
    assert not tpm_ended(record)
    instance.clear()
    process.wait(10)
    assert tpm_ended(record)
    record.tpm = None
    assert not tpm_ended(record)


def test_a_guest_that_leaves_the_disk_unsealed_does_not_run_on(host, instance, monkeypatch):
    """An image of before there was sealing makes a plain disk with a TPM as well as without."""
    monkeypatch.setattr(prepare, "boot_disk", lambda *_: None)
    with pytest.raises(BootError, match="has not sealed its data disk") as caught:
        host.boot("kvm=ok", tpm=True, format="raw", secure_boot="keys")
    assert "inv delete --name box --data" in caught.value.hint
    assert instance.state() is State.STOPPED and lifecycle.docker_contexts() == []
    assert lifecycle.left_over(instance) == {"recovery.key"}


@pytest.mark.parametrize("fails", ["_attempts", "write_known_hosts"])
def test_the_recovery_key_does_not_stay_among_what_is_handed_over(host, instance, monkeypatch, tmp_path, fails):
    """However the boot ends: what is left would open a copy of the disk."""
    found, seen = instance.credentials / "smbios/seal-key", []

    def fail(*_: object) -> None:
        seen.append(found.exists())
        raise OSError("no room")

    monkeypatch.setattr(prepare, "boot_disk", lambda *_: None)
    monkeypatch.setattr(booting, fails, fail)
    image = lifecycle.Image()
    image.ssh_known_hosts = tmp_path / "known"
    image.ssh_known_hosts.write_text("cofferdam ssh-ed25519 AAAA\n")
    with pytest.raises(OSError, match="no room"):
        host.boot("kvm=ok", image, tpm=True, format="raw", secure_boot="keys")
    assert seen == [fails == "_attempts"] and not found.exists()


@pytest.mark.parametrize(
    "qemu", ["Could not set up host forwarding rule 'tcp::2376'", "tpm-emulator: Could not connect to the TPM"]
)
def test_a_tpm_that_ended_with_a_qemu_that_did_not_start_does_not_hide_why(instance, record, qemu):
    """It ends with QEMU's connection, whatever QEMU ended for."""
    process = spawn([sys.executable, "-c", "raise SystemExit(1)"])
    process.wait()
    record.tpm = ServedTpm(pid=process.pid, process_start="1")
    instance.qemu_log.write_text(f"{qemu}\n")
    instance.tpm_log.write_text("swtpm: Data client disconnected\n")
    facts = dict.fromkeys(("settings", "image", "facts", "credentials", "policy", "progress"))
    error = launch._start_failure(launch.Launch(instance=instance, **facts), record, process)
    assert isinstance(error, launch.PortTaken) == ("forwarding" in qemu)
    assert qemu in str(error) and str(error).endswith("its TPM ended, too\n    swtpm: Data client disconnected")
    assert (error.hint, error.log) == ("See QEMU's log.", instance.qemu_log)
