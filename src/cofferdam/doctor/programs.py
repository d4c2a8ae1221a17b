"""Programs of the host: is it there, does it run, which version is it."""

from __future__ import annotations

import shutil

from cofferdam.doctor.model import Finding, Probe, fail, ok, warn
from cofferdam.errors import CofferdamError
from cofferdam.machine.accel import Candidate, candidates, plan
from cofferdam.machine.facts import find_qemu, probe_host
from cofferdam.machine.settings import Accelerator
from cofferdam.machine.shares import program as sharing
from cofferdam.run import run

PATIENCE = 60.0
"""Seconds that a program has to tell its version."""


def program(name: str, *arguments: str) -> Probe:
    """A probe for a program on PATH that prints its version when called with these arguments."""

    def probe() -> Finding:
        path = shutil.which(name)
        if path is None:
            return fail(f"{name} is not installed")
        result = run([path, *arguments], capture=True, check=False, timeout=PATIENCE)
        lines = (result.stdout or result.stderr).strip().splitlines()
        if result.returncode != 0 or not lines:
            return fail(f"{path} does not work: `{name} {' '.join(arguments)}` ended with status {result.returncode}")
        return ok(f"{lines[0].strip()} ({path})")

    return probe


def qemu() -> Finding:
    """QEMU, new enough."""
    facts = find_qemu()
    return ok(f"QEMU {'.'.join(map(str, facts.version))} with {', '.join(sorted(facts.accelerators))} ({facts.binary})")


def virtiofsd() -> Finding:
    """What shares directories with the VM."""
    if found := sharing.installed():
        return ok(f"virtiofsd {'.'.join(map(str, sharing.version(found) or ()))} ({found[0]})")
    return ok("Debian's, unpacked into the cache by the first boot that shares a directory")


def accelerator() -> Finding:
    """What `--accel auto` chooses and why, and of every other accelerator why not."""
    try:
        judged = candidates(probe_host())
    except CofferdamError:
        return warn("not known without a working QEMU", "Mend `qemu` first.")
    chosen = plan("auto", judged).attempts[0]
    others = [item for item in judged if item is not chosen]
    found = "; ".join([f"{chosen.accelerator}: {chosen.reason}", *map(_reason, others)])
    if chosen.accelerator != "tcg":
        return ok(found)
    hints = [item.hint for item in others if item.hint]
    return warn(found, " ".join(hints) or "Nothing to do: this machine has no other; everything works, more slowly.")


def hypervisor(name: Accelerator) -> Probe:
    """A probe for the accelerator that belongs to this system: usable, or the one thing that is missing."""

    def probe() -> Finding:
        try:
            judged = next(each for each in candidates(probe_host()) if each.accelerator == name)
        except CofferdamError:
            return warn("not known without a working QEMU", "Mend `qemu` first.")
        return ok(judged.reason) if judged.usable else warn(judged.reason, judged.hint)

    return probe


def _reason(other: Candidate) -> str:
    """Why it is not the chosen one; a usable one is what is tried next."""
    if " is for " in other.reason:
        return other.reason
    return f"{'else' if other.usable else 'no'} {other.accelerator}: {other.reason}"
