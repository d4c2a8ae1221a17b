"""Which firmware starts a disk, with which variables, and what is refused before anything is built."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from cofferdam.errors import HostError, UsageError
from cofferdam.machine import firmware
from cofferdam.machine.firmware import BootDisk, boot_disk
from cofferdam.machine.settings import boot_settings
from cofferdam.progress import Progress
from cofferdam.run import Result, run

QUIET = Progress(quiet=True)


class Tree:
    """An image tools tree whose programs are only asked what they were to do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "usr/share/OVMF").mkdir(parents=True)
        (path / "usr/share/OVMF/OVMF_VARS_4M.fd").write_bytes(b"no keys")
        self.asked: list[list[str]] = []

    def run(self, argv, *, binds, **_: object) -> Result:
        self.asked.append(argv)
        (host,) = (path for path, inside in binds.items() if inside == "/variables")
        (host / "firmware.fd").write_bytes(b"keys")
        return Result(tuple(argv), 0)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "tree")


def test_without_a_key_the_variables_are_fresh_ones_and_the_firmware_starts_anything(tree, tmp_path):
    variables = tmp_path / "firmware.fd"
    variables.write_bytes(b"of the latest boot")
    found = BootDisk(tmp_path / "disk.raw", "raw", tree).begin(variables)
    assert (found.code.name, found.secure, variables.read_bytes()) == ("OVMF_CODE_4M.fd", False, b"no keys")
    assert stat.S_IMODE(variables.stat().st_mode) == 0o600
    assert tree.asked == []
    assert "checks no signature" in BootDisk(tmp_path / "disk.raw", "raw", tree).note()


def test_with_a_key_the_firmware_enforces_it_and_knows_no_other(tree, tmp_path):
    variables = tmp_path / "firmware.fd"
    found = BootDisk(tmp_path / "disk.raw", "raw", tree, tmp_path / "cert.pem").begin(variables)
    assert (found.code.name, found.secure, variables.read_bytes()) == ("OVMF_CODE_4M.secboot.fd", True, b"keys")
    (words,) = tree.asked
    assert {"--set-pk", "--add-kek", "--add-db", "--secure-boot"} <= set(words)
    assert not any("microsoft" in word for word in words)


def test_a_direct_boot_needs_no_disk():
    assert boot_disk(boot_settings(), object(), QUIET) is None
    with pytest.raises(UsageError, match="nothing is signed"):
        boot_disk(boot_settings(secure_boot="keys"), object(), QUIET)
    with pytest.raises(UsageError, match="--certificate without a key"):
        boot_disk(boot_settings(certificate="secure-boot.crt"), object(), QUIET)


def test_disks_are_for_linux(monkeypatch):
    monkeypatch.setattr(firmware, "host_system", lambda: "darwin")
    with pytest.raises(HostError, match=r"--format raw.* on Linux only"):
        boot_disk(boot_settings(format="raw"), object(), QUIET)


def test_where_a_key_is_does_not_depend_on_the_directory_of_a_later_boot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert boot_settings(secure_boot="keys").secure_boot == str(tmp_path / "keys")
    assert boot_settings(secure_boot="pkcs11:token=a").secure_boot == "pkcs11:token=a"
    with pytest.raises(UsageError, match="--format vmdk"):
        boot_settings(format="vmdk")


def test_what_boots_is_read_where_nothing_can_be_built():
    """Windows has no fcntl, which the build cache is made with."""
    text = "import sys; sys.modules['fcntl'] = None; import cofferdam.machine.prepare, cofferdam.machine.launch"
    done = run([sys.executable, "-c", text], capture=True, check=False)
    assert done.returncode == 0, done.stderr
