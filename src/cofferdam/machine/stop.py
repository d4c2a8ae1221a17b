"""Stopping: ask the guest, then press its power button, then pull the plug."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from cofferdam.errors import InstanceError
from cofferdam.machine.boot import forget, recover
from cofferdam.machine.channels import Address
from cofferdam.machine.events import POWER_OFF
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.launch import reap
from cofferdam.machine.qmp import Monitor

TIMEOUT = 60.0
_BUTTON_SECONDS = 10.0


@dataclass(frozen=True)
class StopReport:
    """A stopped instance.

    Attributes:
        how: `guest` (it powered itself off), `button`, `killed`, or `not running`.
        seconds: how long it took.
        context: the docker context that was removed.
        current: the one that is current again in its place.
    """

    instance: str
    how: str
    seconds: float
    context: str | None = None
    current: str | None = None

    def line(self) -> str:
        """The report as text."""
        words = {
            "guest": f"stopped in {self.seconds:.1f} s",
            "button": f"stopped by its power button in {self.seconds:.1f} s",
            "killed": "ended at once, as by a power cut",
            "not running": "was not running",
        }
        removed = f"; docker context `{self.context}` removed" if self.context else ""
        return f"{self.instance:<14} {words[self.how]}{removed}" + (f", `{self.current}` is current" if self.current else "")


def stop(instance: Instance, *, force: bool = False, timeout: float = TIMEOUT) -> StopReport:
    """Stop an instance and remove what its boot made outside its directory.

    Args:
        force: do not ask the guest.
        timeout: seconds the guest has to power itself off.

    Raises:
        InstanceError: there is no such instance, another command stops it, or QEMU does not end.
    """
    if instance.state() is State.ABSENT:
        raise InstanceError(f"there is no instance `{instance.name}`", hint="`inv status` lists those there are.")
    if instance.state() is State.STARTING:
        # The booting command notices, tidies up and lets go of its claim.
        instance.want_stop(True)
        if instance.alive:
            instance.kill()
    with instance.claim("stop", timeout=15.0):
        instance.want_stop(False)
        return stop_claimed(instance, force=force, timeout=timeout)


def stop_claimed(instance: Instance, *, force: bool = False, timeout: float = TIMEOUT) -> StopReport:
    """The same for a command that holds the claim already.

    Raises:
        InstanceError: QEMU does not end.
    """
    start = time.monotonic()
    state = instance.settled_state()
    if state in (State.RUNNING, State.PAUSED):
        how = _end(instance, state, force=force, timeout=timeout)
        removed = forget(instance)
    else:
        how = "killed" if state is State.UNFINISHED else "not running"
        removed = None
        recover(instance)
    reap()
    return StopReport(instance.name, how, round(time.monotonic() - start, 2), *(removed or (None, None)))


def _end(instance: Instance, state: State, *, force: bool, timeout: float) -> str:
    if not force and state is State.RUNNING:
        asked = instance.send(POWER_OFF)
        if asked and instance.wait_gone(timeout):
            return "guest"
        # One that was too busy to answer has heard of it only now, and has the whole time from here on.
        if _press_button(instance) and instance.wait_gone(_BUTTON_SECONDS if asked else timeout):
            return "button"
    instance.kill()
    return "killed"


def _press_button(instance: Instance) -> bool:
    record = instance.record
    if record is None:
        return False
    with contextlib.suppress(InstanceError), Monitor(Address.from_text(record.qmp), timeout=5) as monitor:
        monitor.press_power_button()
        return True
    return False
