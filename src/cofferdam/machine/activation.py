"""A booted instance's docker context: made, and made the current one; what was current before is in the record, to come back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cofferdam.machine import context
from cofferdam.machine.current import ConfigUnusable, current, make_current, overridden
from cofferdam.machine.instance import Instance, Record, instances


@dataclass(frozen=True)
class Reached:
    """How the docker program reaches the instance.

    Attributes:
        context: name of its context; none when it could not be made.
        current: whether that is the current one.
        notes: what else the user should know.
    """

    context: str | None
    current: bool
    notes: tuple[str, ...] = ()


def make_context(instance: Instance, record: Record, host: str, certificates: Path, *, activate: bool) -> Reached:
    """Make the context of a booted instance. The record is written, before anything else is changed.

    Args:
        instance: whose claim the caller holds.
        record: of this boot.
        host: `tcp://127.0.0.1:PORT`.
        certificates: directory of ca.pem, cert.pem and key.pem.
        activate: make it the current one.
    """
    made = context.instance_context(instance.name, instance.directory)
    record.docker_config = str(made.config)
    notes: list[str] = []
    try:
        record.former_contexts = former(made) if activate else []
    except ConfigUnusable as error:
        notes.append(_not_current(made, error))
        activate = False
    instance.write_record(record)
    try:
        context.create(made, host, certificates)
    except (context.ContextTaken, OSError) as error:
        return Reached(None, False, (*notes, f"no docker context: {error}"))
    if not activate:
        return Reached(made.name, False, tuple(notes))
    try:
        make_current(made.config, made.name)
    except ConfigUnusable as error:
        return Reached(made.name, False, (*notes, _not_current(made, error)))
    if names := overridden():
        words = " and ".join(names)
        notes.append(f"{words} set in this environment: docker heeds that, not its current context; unset {' '.join(names)}")
    return Reached(made.name, True, tuple(notes))


def former(made: context.DockerContext) -> list[str]:
    """The contexts to come back to, the latest first: the current one and, when that is an instance's, those before it.

    Raises:
        ConfigUnusable: nobody can tell.
    """
    found = [current(made.config)]
    for other in instances():
        record = other.record
        if context.context_name(other.name) == found[0] and record is not None and record.docker_config == str(made.config):
            found += record.former_contexts
    return [name for name in dict.fromkeys(found) if name != made.name]


def _not_current(made: context.DockerContext, error: ConfigUnusable) -> str:
    return f"docker context `{made.name}` is not the current one: {error}. {error.hint}"
