"""The self-test of a machine: a container runs in it, and the kernel shows it ids of its own.

What the container is made from is here, 200 bytes: a desktop that boots a release has no tools tree, and no registry is asked.
"""

from __future__ import annotations

import io
import struct
import tarfile
import uuid

import docker.errors
import requests

from cofferdam.errors import BootError
from cofferdam.machine.door import Door, connect

TIMEOUT = 120
"""Seconds for one request."""

_REPOSITORY = "cofferdam/self-test"
_PROGRAM = "/uid-map"
_LOWEST = 65536
"""No container has an id of the VM's own accounts, which are below."""

# Reads /proc/self/uid_map and writes it to standard output, for the kernel of x86_64.
_CODE = (
    ("b8 02 00 00 00", "mov eax, 2 (open)"),
    ("48 8d 3d 32 00 00 00", "lea rdi, [path]"),
    ("31 f6 31 d2", "xor esi, esi; xor edx, edx"),
    ("0f 05", "syscall"),
    ("48 81 ec 00 02 00 00", "sub rsp, 512"),
    ("89 c7 31 c0", "mov edi, eax; xor eax, eax (read)"),
    ("48 89 e6", "mov rsi, rsp"),
    ("ba 00 02 00 00", "mov edx, 512"),
    ("0f 05", "syscall"),
    ("89 c2", "mov edx, eax"),
    ("b8 01 00 00 00 89 c7", "mov eax, 1 (write); mov edi, eax"),
    ("48 89 e6", "mov rsi, rsp"),
    ("0f 05", "syscall"),
    ("b8 3c 00 00 00 31 ff", "mov eax, 60 (exit); xor edi, edi"),
    ("0f 05", "syscall"),
)
_PATH = b"/proc/self/uid_map\0"


class SelfTestError(BootError):
    """The machine runs, but not as it should."""


def self_test(door: Door, *, isolated: bool) -> str:
    """Run a container and look at the ids that it has.

    Args:
        door: the way in.
        isolated: whether the image keeps containers apart; without, it only has to run.

    Returns:
        What was seen, in a few words.

    Raises:
        SelfTestError: no container could be run, or it has ids of the VM.
    """
    try:
        said = _run(door)
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise SelfTestError(f"self-test: no container could be run: {_short(error)}", hint="See `inv logs`.") from error
    return judge(said, isolated=isolated)


def judge(said: str, *, isolated: bool) -> str:
    """What a container's /proc/self/uid_map says, in a few words.

    Raises:
        SelfTestError: nothing, or that it has ids of the VM.
    """
    rows = [[int(word) for word in line.split()] for line in said.splitlines() if line.replace(" ", "").isdecimal()]
    if not rows or any(len(row) != 3 for row in rows):
        raise SelfTestError(f"self-test: a container printed `{_short(said)}`, and not its ids")
    if not isolated:
        return "a container runs; this image keeps none apart"
    own = [row for row in rows if row[1] >= _LOWEST]
    if own != rows or rows[0][0] != 0:
        raise SelfTestError(f"self-test: containers have ids of the VM: {'; '.join(' '.join(map(str, row)) for row in rows)}")
    return f"a container's root is id {rows[0][1]} of the VM"


def program() -> bytes:
    """The program of the container: an ELF file without libraries."""
    code = b"".join(bytes.fromhex(text) for text, _ in _CODE) + _PATH
    base, start = 0x400000, 64 + 56
    size = start + len(code)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return head + segment + code


def _run(door: Door) -> str:
    client = connect(door, timeout=TIMEOUT)
    # A tag that nobody else has: what is there already, whatever it is, is not what runs.
    tag = uuid.uuid4().hex[:12]
    image = f"{_REPOSITORY}:{tag}"
    try:
        client.api.import_image_from_data(_layer(), repository=_REPOSITORY, tag=tag)
        try:
            container = client.containers.create(image, [_PROGRAM], network_mode="none")
            try:
                container.start()
                container.wait(timeout=TIMEOUT)
                output = container.logs(stdout=True, stderr=True)
            finally:
                container.remove(force=True)
        finally:
            client.images.remove(image, force=True)
    finally:
        client.close()
    return bytes(output or b"").decode("ascii", "replace")


def _layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry, data = tarfile.TarInfo(_PROGRAM.lstrip("/")), program()
        entry.size, entry.mode = len(data), 0o755
        tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _short(value: object) -> str:
    text = " ".join(str(value).split())[:300]
    return "".join(each if each.isprintable() else "?" for each in text)
