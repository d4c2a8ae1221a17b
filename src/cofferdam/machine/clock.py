"""The guest's clock: the host says what time it is, and the guest steps its clock when that is off.

The guest reads its real-time clock once, when it boots. Its clock stands still while the host sleeps or QEMU holds the machine.
"""

from __future__ import annotations

import json
import time

from cofferdam.machine.instance import Instance

PERIOD = 10.0
"""Seconds between two calls, for whoever keeps an instance's clock."""
_PATIENCE = 2.0


def clock_line(seconds: float) -> bytes:
    """The message to the guest's agent; `seconds` since 1970, UTC."""
    return json.dumps({"command": "clock", "seconds": seconds}, separators=(",", ":")).encode() + b"\n"


def keep_clock(instance: Instance) -> None:
    """Tell a running guest the host's time, which costs it one short connection; the guest decides whether its clock is off.

    Where no guest listens (not booted yet, gone, held by QEMU) nothing happens, for two seconds at most, and nothing is raised.
    """
    record = instance.record
    # Until the guest is ready, its port belongs to the command that boots it.
    if record is not None and record.ready:
        instance.send(clock_line(time.time()), _PATIENCE)
