"""A disk with a GUID partition table: system partition with the unified kernel image, root, and the root's tree of hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path

from cofferdam.guestconfig import seal
from cofferdam.image.measured import PART_BYTES
from cofferdam.image.model import HASHES, ROOT, Image
from cofferdam.image.unified import EPOCH
from cofferdam.image.verity import BLOCK, Verity
from cofferdam.tools.failures import explained
from cofferdam.tools.tree import ToolsTree

BOOT_PATH = "EFI/BOOT/BOOTX64.EFI"
"""What firmware starts on a disk that it knows nothing of."""

_MIB = 2**20
_SYSTEM = 64 * _MIB
"""Bytes of the system partition: firmware wants FAT32, which begins at 33 MiB."""

_DEFINITIONS = {
    "10-system.conf": """[Partition]
Type=esp
Format=vfat
Label=cofferdam-esp
CopyFiles=/work/system:/
SizeMinBytes={system}
SizeMaxBytes={system}
""",
    "20-root.conf": """[Partition]
Type=root-x86-64
UUID={root_id}
Label=cofferdam-root
CopyBlocks=/image/{root}
SizeMinBytes={root_size}
SizeMaxBytes={root_size}
ReadOnly=yes
""",
    "30-verity.conf": """[Partition]
Type=root-x86-64-verity
UUID={hashes_id}
Label=cofferdam-verity
CopyBlocks=/image/{hashes}
SizeMinBytes={hashes_size}
SizeMaxBytes={hashes_size}
ReadOnly=yes
""",
}


# Behind the others: the numbers of those stay as they are.
_SEAL = {
    "40-seal.conf": """[Partition]
Type=linux-generic
Label={label}
CopyBlocks=/work/{seal}
SizeMinBytes={seal_size}
SizeMaxBytes={seal_size}
"""
}


def definitions(verity: Verity, root_size: int, hashes_size: int, sealed: Path | None = None) -> dict[str, str]:
    """The files that tell systemd-repart the partitions, by name; `sealed` is what a TPM is shown of a signed disk."""
    root_id, hashes_id = verity.partitions
    values = {"system": _SYSTEM, "root": ROOT, "root_id": root_id, "root_size": _whole(root_size, BLOCK)}
    values |= {"hashes": HASHES, "hashes_id": hashes_id, "hashes_size": _whole(hashes_size, BLOCK)}
    texts = _DEFINITIONS
    if sealed is not None:
        texts = texts | _SEAL
        values |= {"label": seal.PARTITION, "seal": sealed.name, "seal_size": PART_BYTES}
    return {name: text.format(**values) for name, text in texts.items()}


def disk_size(root_size: int, hashes_size: int, sealed: Path | None = None) -> int:
    """Bytes of the disk: whole mebibytes, of which one before and one after the partitions is for the table."""
    partitions = _SYSTEM + _whole(root_size, BLOCK) + _whole(hashes_size, BLOCK)
    partitions += PART_BYTES if sealed is not None else 0
    return _whole(partitions, _MIB) + 2 * _MIB


def make_disk(image: Image, program: Path, sealed: Path | None, tools: ToolsTree, work: Path, log: Path) -> Path:
    """Write the disk, as raw bytes; neither root nor a loop device is needed, and the same image gives the same bytes.

    Args:
        image: with `verity`.
        program: the unified kernel image.
        sealed: what a TPM is shown of it, a file in `work`; none of an unsigned one.
        tools: the image tools tree.
        work: directory for it and for what it is made from.
        log: file for the output.

    Raises:
        BuildError: it failed.
    """
    assert image.verity is not None and image.hashes is not None
    sizes = image.root.stat().st_size, image.hashes.stat().st_size
    start = work / "system" / BOOT_PATH
    start.parent.mkdir(parents=True)
    shutil.copyfile(program, start)
    for path in (start, *start.relative_to(work).parents):
        os.utime(work / path, (EPOCH, EPOCH))
    (work / "repart.d").mkdir()
    for name, text in definitions(image.verity, *sizes, sealed).items():
        (work / "repart.d" / name).write_text(text, encoding="ascii")
    arguments = ["systemd-repart", "--definitions=/work/repart.d", "--empty=create", "--offline=yes", "--dry-run=no"]
    # Said, or the file system gets sectors of 4 KiB, which not all firmware reads on such a disk.
    arguments += [f"--size={disk_size(*sizes, sealed)}", f"--seed={_seed(image.verity)}", "--sector-size=512", "/work/disk.raw"]
    with explained("disk image", log):
        env = {"SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC"}
        tools.run(arguments, binds={image.directory: "/image", work: "/work"}, env=env, log=log)
    return work / "disk.raw"


def _seed(verity: Verity) -> uuid.UUID:
    """What all identifiers come from that are not those of root and tree."""
    return uuid.UUID(hashlib.sha256(f"cofferdam disk {verity.root_hash}".encode()).hexdigest()[:32])


def _whole(size: int, unit: int) -> int:
    return -(-size // unit) * unit
