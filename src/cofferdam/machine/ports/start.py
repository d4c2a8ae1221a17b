"""Starting the port keeper, by `boot` and by a `status` that finds it gone."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address
from pathlib import Path

from cofferdam.machine.hostos import wait_until
from cofferdam.machine.instance import Instance
from cofferdam.machine.launch import adopt
from cofferdam.machine.ports.published import Published, read
from cofferdam.machine.ports.socketplace import is_live, require_free
from cofferdam.run import spawn

# More than what one list of containers may take.
_SECONDS = 60.0


def ensure_keeper(instance: Instance) -> list[str]:
    """Start the keeper of a running instance unless it is there, and wait for its first look at Docker.

    One command at a time: a second would take away what the first one's keeper has just told.

    Returns:
        Notes: that it is not at work, or nothing.
    """
    record = instance.record
    if record is None or not record.keeper_qmp or _at_work(instance):
        return []
    if not instance.keeper_start.acquire(_SECONDS):
        return [_not_at_work(instance)]
    with instance.keeper_start.holding():
        return _start(instance)


def _at_work(instance: Instance) -> bool:
    return instance.keeper_lock.held_by_another() and instance.published.exists()


def _start(instance: Instance) -> list[str]:
    if _at_work(instance):
        return []
    instance.published.unlink(missing_ok=True)
    if instance.keeper_log.exists():
        instance.keeper_log.replace(instance.keeper_log.with_suffix(".log.old"))
    instance.keeper_log.touch(mode=0o600)
    # -P: no module of the directory that the user happens to be in
    command = [sys.executable, "-P", "-m", "cofferdam.machine.ports.keeper", instance.name]
    home = str(instance.directory.parent.parent)
    with instance.keeper_log.open("ab") as log:
        process = spawn(command, stdout=log, stderr=log, cwd=instance.directory, env={"COFFERDAM_STATE_HOME": home})
    adopt(process)
    wait_until(lambda: instance.published.exists() or process.poll() is not None, _SECONDS)
    if instance.published.exists():
        return []
    return [_not_at_work(instance)]


def _not_at_work(instance: Instance) -> str:
    return f"published ports do not appear on the desktop: their keeper is not at work yet, see {instance.keeper_log}"


def await_free(path: Path, instance: Instance) -> None:
    """Wait while the keeper of the machine before is on its way out and may have the socket there.

    Raises:
        InstanceError: another program listens there.
    """
    wait_until(lambda: not (is_live(path) and instance.keeper_lock.held_by_another()), _SECONDS)
    require_free(path)


def publish_notes(address: IPv4Address) -> list[str]:
    """A warning when published ports are open to more than this machine."""
    if address.is_loopback:
        return []
    return [f"warning: published ports listen on {address}, so other machines may reach containers (--publish)"]


def published(instance: Instance) -> Published:
    """What the keeper tells; nothing while it is not at work."""
    return read(instance) or Published()
