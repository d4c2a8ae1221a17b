"""The data disk of a running instance, grown in three steps: its file, what QEMU shows of it, the guest's file system.

Whatever is killed in between, the next boot does the rest, and so does the same command again: they grow the file system to what
the disk has.
"""

from __future__ import annotations

import json
import secrets
import time

from cofferdam.errors import InstanceError
from cofferdam.machine.channels import Address, connect
from cofferdam.machine.cmdline import DATA_NODE
from cofferdam.machine.console import clean
from cofferdam.machine.disk import disk_size
from cofferdam.machine.events import Event, EventStream
from cofferdam.machine.instance import Instance, Record
from cofferdam.machine.qmp import Monitor

PATIENCE = 60.0
"""Seconds that a guest has to grow its file system."""
# Others wait for the port, the clock's keeper among them, whose message must not become old: so it is held for a short time only.
_TURN = 3.0
_PAUSE = 0.3
_LONGEST_TEXT = 300


def show_to_guest(instance: Instance, record: Record) -> None:
    """Have QEMU show the guest the size that the disk's file has. The caller holds the claim.

    Raises:
        InstanceError: the monitor does not answer, or QEMU refuses.
    """
    with Monitor(Address.from_text(record.qmp)) as monitor:
        monitor.resize_disk(DATA_NODE, disk_size(instance.data_disk))


def grow_line(name: str, size: int) -> bytes:
    """The message to the guest's agent: grow the file system, the disk has `size` bytes; `name` comes back with the answer."""
    return json.dumps({"command": "grow", "id": name, "bytes": size}, separators=(",", ":")).encode() + b"\n"


def grow_in_guest(instance: Instance, record: Record, size: int, patience: float = PATIENCE) -> int:
    """Have the guest grow its file system to a disk of `size` bytes; bytes of the file system then.

    Raises:
        InstanceError: the guest says that it cannot, does not answer in time, or has ended.
    """
    name, deadline = secrets.token_hex(8), time.monotonic() + patience
    hint = f"The disk has its new size, and the next boot grows the file system: `inv restart{instance.option}`."
    while (left := deadline - time.monotonic()) > 0:
        answer = _turn(record, name, grow_line(name, size), min(_TURN, left))
        if answer is not None:
            return _verdict(answer, hint)
        if not instance.alive:
            raise InstanceError("the machine ended meanwhile", hint=hint)
        time.sleep(min(_PAUSE, left))
    raise InstanceError(f"the guest did not answer within {patience:.0f} s: it is held, busy, or of an older image", hint=hint)


def _turn(record: Record, name: str, line: bytes, seconds: float) -> Event | None:
    """Ask once and listen for so many seconds."""
    stream, end = EventStream(), time.monotonic() + seconds
    try:
        with connect(Address.from_text(record.ready_port), seconds) as port:
            port.sendall(line)
            while (left := end - time.monotonic()) > 0:
                port.settimeout(left)
                data = port.recv(65536)
                if not data:
                    return None
                for event in stream.feed(data):
                    if event.kind == "grown" and event.data.get("id") == name:
                        return event
    except OSError:
        # Nobody listens, or nobody had anything to say: the caller asks again.
        return None
    return None


def _verdict(answer: Event, hint: str) -> int:
    size = answer.data.get("bytes")
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    text = clean(str(answer.data.get("error", "it does not say why"))[:_LONGEST_TEXT])
    raise InstanceError(f"the guest could not grow its file system: {text}", hint=hint)
