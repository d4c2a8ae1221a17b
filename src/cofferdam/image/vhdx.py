"""Takes out of a VHDX what differs from one conversion to the next: identifiers that qemu-img throws dice for, and its journal.

Offsets and checksums are those of Microsoft's specification of the format ([MS-VHDX]).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from cofferdam.errors import BuildError

SIGNATURE = b"vhdxfile"
_HEADERS = (64 * 2**10, 128 * 2**10)
_REGIONS = 192 * 2**10
_HEADER_SIZE = 4096
_METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_DISK_IDENTIFIER = uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
_POLYNOMIAL = 0x82F63B78
"""CRC-32C, which Python's own libraries do not have."""


def settle(path: Path, identity: uuid.UUID) -> None:
    """Give a VHDX, whole and closed, identifiers that come from `identity`, and an empty journal.

    Raises:
        BuildError: the file is not a VHDX, or not a whole one; it is as it was.
    """
    with path.open("r+b") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise BuildError(f"{path} is not a VHDX", hint="Build it again.")
        # All is read before the first byte is written: what is not whole is left as it is.
        try:
            headers = [_header(file, offset) for offset in _HEADERS]
            identifier = _item(file, _region(file, _METADATA), _DISK_IDENTIFIER)
        except (ValueError, struct.error) as error:
            raise BuildError(f"{path} is not a whole VHDX: {error}", hint="Build it again.") from error
        for sequence, (offset, header) in enumerate(zip(_HEADERS, headers, strict=True), 1):
            _settle_header(file, offset, header, sequence, identity)
        file.seek(identifier)
        file.write(uuid.uuid5(identity, "disk").bytes_le)


def _header(file: BinaryIO, offset: int) -> bytearray:
    file.seek(offset)
    header = bytearray(file.read(_HEADER_SIZE))
    if header[:4] != b"head" or len(header) != _HEADER_SIZE:
        raise ValueError(f"there is no header at {offset}")
    return header


def _settle_header(file: BinaryIO, offset: int, header: bytearray, sequence: int, identity: uuid.UUID) -> None:
    journal_size, journal = struct.unpack_from("<IQ", header, 68)
    # The header with the higher number counts; then writes of the file, of the data, and no journal: there is nothing to replay.
    header[8:16] = struct.pack("<Q", sequence)
    header[16:64] = uuid.uuid5(identity, "file").bytes_le + uuid.uuid5(identity, "data").bytes_le + bytes(16)
    header[4:8] = bytes(4)
    struct.pack_into("<I", header, 4, crc32c(header))
    file.seek(offset)
    file.write(header)
    file.seek(journal)
    file.write(bytes(journal_size))


def _region(file: BinaryIO, wanted: uuid.UUID) -> int:
    file.seek(_REGIONS)
    signature, _, count, _ = struct.unpack("<4sIII", file.read(16))
    if signature != b"regi":
        raise ValueError("there is no table of regions")
    rows = (struct.unpack("<16sQII", file.read(32)) for _ in range(count))
    return _found(((name, offset) for name, offset, _, _ in rows), wanted)


def _item(file: BinaryIO, table: int, wanted: uuid.UUID) -> int:
    file.seek(table)
    signature, _, count, _ = struct.unpack("<8sHH20s", file.read(32))
    if signature != b"metadata":
        raise ValueError("there is no table of metadata")
    rows = (struct.unpack("<16sIIII", file.read(32)) for _ in range(count))
    return table + _found(((name, offset) for name, offset, _, _, _ in rows), wanted)


def _found(rows: Iterable[tuple[bytes, int]], wanted: uuid.UUID) -> int:
    for name, offset in rows:
        if name == wanted.bytes_le:
            return offset
    raise ValueError(f"it has no {wanted}")


def crc32c(data: bytes | bytearray) -> int:
    """The checksum of a header whose own checksum is zero."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value ^ 0xFFFFFFFF
