"""The page's values of a real instance: its status, its policy, its engine and the refusals in its file."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cofferdam import policy as policies
from cofferdam.errors import CofferdamError, InstanceError
from cofferdam.machine import api
from cofferdam.machine import denied as denials
from cofferdam.machine.channels import LOOPBACK
from cofferdam.machine.denied import Denied
from cofferdam.machine.disk import human
from cofferdam.machine.door import Door
from cofferdam.machine.instance import Instance, Record
from cofferdam.page.engine import EngineWatch
from cofferdam.page.model import Engine, Policy, View
from cofferdam.profile import load_profile

SHOWN = 200
_STATUS_SECONDS = 5.0
_CHANGED = "The files that it was made from have changed since the boot: its values are not shown."
_PLAIN = (
    ("state", "State"),
    ("profile", "Profile"),
    ("accelerator", "Accelerator"),
    ("kernel", "Kernel"),
    ("cpus", "Processors"),
    ("docker_host", "Docker"),
    ("context", "Docker context"),
    ("started", "Started"),
)


def facts(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What `inv status` says of an instance, for people."""
    found = [(label, str(row[key])) for key, label in _PLAIN if row.get(key)]
    if "memory" in row:
        found.append(("Memory", f"{row['memory']} MiB"))
    if disk := row.get("data_disk"):
        found.append(("Data disk", f"{human(disk['used'])} of {human(disk['bytes'])}"))
    if ports := row.get("ports"):
        found.append(("Published ports", ", ".join(f"{p['host_port']}/{p['proto']} ({p['container']})" for p in ports)))
    return (*found, *[("Note", line) for line in row.get("note", "").splitlines()])


def made_policy(record: Record) -> Policy:
    """The policy of a boot, made anew from the files that it was made from."""
    try:
        baked = policies.profile_policy(load_profile(record.profile))
        name = record.policy.file if record.policy is not None else None
        handed_over = policies.boot_policy(Path(name)) if name else None
        result = policies.joined(baked, handed_over)
    except CofferdamError as error:
        return Policy(notes=(str(error),))
    shown = policies.show_json(result, [])["policy"]
    values = tuple((key, json.dumps(value, ensure_ascii=False)) for key, value in shown.items())
    return Policy(result.policy.sha256, values, result.notes)


def policy_in_force(made: Policy, record: Record, engine: Engine) -> Policy:
    """What to show: the hash that the machine tells, or the boot noted, and values only when they belong to that hash."""
    sha256 = engine.policy or (record.policy.sha256 if record.policy is not None else None) or ""
    notes = (engine.refuses_all,) if engine.refuses_all else ()
    if made.sha256 and made.sha256 != sha256:
        return Policy(sha256, (), (*notes, _CHANGED))
    return Policy(sha256, made.values, (*notes, *made.notes))


class InstanceSource:
    """See `cofferdam.page.model.Source`.

    Raises:
        InstanceError: the instance does not run.
    """

    def __init__(self, instance: Instance) -> None:
        record = instance.record
        if record is None or not record.ready or not instance.alive:
            hint = f"Boot it: `inv boot{instance.option}`."
            raise InstanceError(f"instance `{instance.name}` is not running, so there is nothing to show", hint=hint)
        self._instance, self._record = instance, record
        self._engine = EngineWatch(Door(f"tcp://{LOOPBACK}:{record.docker_port}", instance.credentials / "client"))
        self._policy = made_policy(record)
        self._facts: tuple[tuple[str, str], ...] = ()
        self._denied: tuple[Denied, ...] = ()
        self._mark: tuple[int, int] | None = None
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        # In a thread of its own: a status waits for whoever has QEMU's monitor, or for a keeper that it starts.
        while self._instance.alive:
            with suppress(CofferdamError, OSError):
                self._facts = facts(api.status(self._instance.name, tidy=False)[0])
            time.sleep(_STATUS_SECONDS)

    def view(self) -> View:
        """The present state."""
        engine = self._engine.latest
        policy = policy_in_force(self._policy, self._record, engine)
        return View(self._instance.name, self._instance.alive, self._facts, engine, policy, self._refusals())

    def _refusals(self) -> tuple[Denied, ...]:
        try:
            status = self._instance.denied.stat()
        except FileNotFoundError:
            return ()
        if (mark := (status.st_ino, status.st_size)) != self._mark:
            self._denied = tuple(reversed(denials.read(self._instance.denied)[-SHOWN:]))
            self._mark = mark
        return self._denied
