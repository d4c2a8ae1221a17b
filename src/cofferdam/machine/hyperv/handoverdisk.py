"""The disk that hands keys and settings over to a guest of Hyper-V: the strings of SMBIOS, in a fixed VHD.

`configdisk` reads it there.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import time
from collections.abc import Iterable
from ipaddress import IPv4Address

MAGIC = b"cofferdam-handover 1"
RESOLVER = "resolver"
LIMIT = 128 * 2**10
"""What the guest reads."""

_SIZE = 4 * 2**20
_CREATOR = b"win "
"""Readers take the exact size of such a disk, of others that of their cylinders."""
_EPOCH = 946684800
"""Seconds to 2000-01-01, from which a VHD counts."""


def content(strings: Iterable[bytes], resolvers: Iterable[IPv4Address]) -> bytes:
    """The first bytes of the disk.

    Args:
        strings: those that QEMU would put into SMBIOS.
        resolvers: name servers for the guest, which has none of its own there.

    Raises:
        ValueError: it is more than the guest reads.
    """
    names = "\n".join(map(str, resolvers))
    lines = [*strings]
    if names:
        lines.append(f"io.systemd.credential.binary:cofferdam.{RESOLVER}=".encode() + base64.b64encode(names.encode()))
    payload = b"".join(line + b"\n" for line in lines)
    whole = b"%s %d %s\n%s" % (MAGIC, len(payload), hashlib.sha256(payload).hexdigest().encode(), payload)
    if len(whole) > LIMIT:
        raise ValueError(f"{len(whole)} bytes are more than the {LIMIT} that the guest reads")
    return whole


def fixed_vhd(data: bytes, unique: bytes, now: float | None = None) -> bytes:
    """A disk with these first bytes, as a fixed VHD: 512 bytes after the disk describe it (Microsoft's VHD specification 1.0).

    Args:
        data: the first bytes; zeros follow.
        unique: 16 bytes that no other disk has.
        now: seconds since 1970.
    """
    stamp = max(0, int(time.time() if now is None else now) - _EPOCH)
    # Cylinders, heads and sectors for firmware of old: 4 MiB are 120 * 4 * 17 sectors and a few.
    geometry = struct.pack(">HBB", _SIZE // 512 // (4 * 17), 4, 17)
    head = struct.pack(">8sIIQI4sI4sQQ", b"conectix", 2, 0x10000, 2**64 - 1, stamp, _CREATOR, 0x10000, b"Wi2k", _SIZE, _SIZE)
    tail = unique + bytes(1 + 427)
    kind = struct.pack(">I", 2)
    total = sum(head + geometry + kind + tail)
    footer = head + geometry + kind + struct.pack(">I", ~total & 0xFFFFFFFF) + tail
    return data.ljust(_SIZE, b"\0") + footer
