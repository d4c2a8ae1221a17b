"""The words that verify a root, and the partitions that hold it: both come from the root hash and nothing else."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from pydantic import ValidationError

from cofferdam.image.kernelline import kernel_command_line, sealed_command_line
from cofferdam.image.partitions import definitions, disk_size
from cofferdam.image.verity import Verity

HASH, SALT = "0123456789abcdef" * 4, "ab" * 32
VERITY = Verity(root_hash=HASH, salt=SALT, blocks=10)
HALVES = "01234567-89ab-cdef-0123-456789abcdef"


def test_the_root_is_made_by_the_kernel_from_its_command_line():
    device, table = VERITY.direct_words
    assert device == "root=/dev/dm-0"
    assert table == (
        f'dm-mod.create="root,,,ro,0 80 verity 1 /dev/vda /dev/vdc 4096 4096 10 1 sha256 {HASH} {SALT} 1 panic_on_corruption"'
    )


def test_the_verified_device_is_the_root_and_no_other():
    words = kernel_command_line(["loglevel=4", *VERITY.direct_words]).split()
    assert [word for word in words if word.startswith("root=")] == ["root=/dev/dm-0"]
    assert "ro" in words


def test_a_disk_is_found_by_what_it_holds_on_whatever_bus():
    _, table, wait = VERITY.disk_words
    assert f"verity 1 PARTUUID={HALVES} PARTUUID={HALVES} 4096" in table
    assert wait == f"dm-mod.waitfor=PARTUUID={HALVES},PARTUUID={HALVES}"


def test_a_sealed_command_line_takes_no_more_words():
    assert sealed_command_line(VERITY.disk_words) == f"{kernel_command_line(VERITY.disk_words)} --"


@pytest.mark.parametrize(
    "change", [{"root_hash": HASH[1:]}, {"salt": SALT.upper()}, {"blocks": 0}, {"root_hash": f"{HASH[:-1]} "}]
)
def test_what_is_no_hash_is_refused(change):
    with pytest.raises(ValidationError):
        Verity.model_validate({**VERITY.model_dump(), **change})


def test_partitions_are_named_by_the_halves_of_the_root_hash():
    verity = Verity(root_hash="1" * 32 + "2" * 32, salt=SALT, blocks=10)
    assert verity.partitions == (uuid.UUID("1" * 32), uuid.UUID("2" * 32))
    files = definitions(verity, 40960, 8192)
    assert list(files) == ["10-system.conf", "20-root.conf", "30-verity.conf"], "the firmware's own comes first"
    assert f"UUID={uuid.UUID('1' * 32)}" in files["20-root.conf"]
    assert f"UUID={uuid.UUID('2' * 32)}" in files["30-verity.conf"]
    assert "SizeMaxBytes=40960\n" in files["20-root.conf"] and "SizeMaxBytes=8192\n" in files["30-verity.conf"]


def test_what_a_tpm_is_shown_lies_behind_the_others():
    verity = Verity(root_hash="1" * 32 + "2" * 32, salt=SALT, blocks=10)
    files = definitions(verity, 40960, 8192, Path("/work/seal"))
    assert [*files] == [*definitions(verity, 40960, 8192), "40-seal.conf"]
    assert "Label=cofferdam-seal\n" in files["40-seal.conf"] and "CopyBlocks=/work/seal\n" in files["40-seal.conf"]
    assert "ReadOnly" not in files["40-seal.conf"], "systemd-repart ignores it on a partition of this type, and says so"
    assert disk_size(2**20, 2**20, Path("seal")) == (64 + 2 + 1 + 2) * 2**20


def test_a_disk_is_whole_mebibytes_with_room_for_both_tables():
    assert disk_size(40960, 8192) == (64 + 1 + 2) * 2**20
    assert disk_size(2**20, 2**20) == (64 + 2 + 2) * 2**20
