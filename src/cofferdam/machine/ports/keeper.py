"""The keeper: a process beside QEMU that lives as long as it does, publishes ports on the desktop, keeps the guest's clock, notes
what the guest refuses, and has Docker's socket on the desktop where one is wanted.

`python -m cofferdam.machine.ports.keeper NAME`. It needs no word to end: its monitor connection breaks when QEMU does.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from qemu.qmp import QMPClient, QMPError, Runstate

from cofferdam.errors import InstanceError
from cofferdam.machine import clock, denied
from cofferdam.machine.channels import LOOPBACK, Address
from cofferdam.machine.door import Door
from cofferdam.machine.instance import Instance, Record
from cofferdam.machine.ports import channel
from cofferdam.machine.ports.forwards import Forwards
from cofferdam.machine.ports.ledger import Ledger
from cofferdam.machine.ports.published import Published, summary, write
from cofferdam.machine.ports.socketdoor import SocketDoor
from cofferdam.machine.ports.wanted import wanted
from cofferdam.machine.ports.watch import Containers, Unreachable, start_following
from cofferdam.machine.qmp import connected

RETRY_SECONDS = 5.0
SETTLE_SECONDS = 0.3
# A connection that has been kept may have been closed meanwhile, which says nothing about Docker.
_TRIES = 2
# The keeper of the machine before may be on its way out.
_LOCK_SECONDS = 5.0


class Keeper:
    """Keeps the forwards of one running instance."""

    def __init__(self, instance: Instance, record: Record, client: QMPClient) -> None:
        self._instance, self._record, self._client = instance, record, client
        doors = {port for port in (record.docker_port, record.ssh_port) if port}
        self._ledger = Ledger(Forwards(client, record.publish, doors))
        self._door = Door(f"tcp://{LOOPBACK}:{record.docker_port}", instance.credentials / "client")
        self._containers = Containers(self._door)
        path = Path(record.socket) if record.socket else None
        self._socket = SocketDoor(path, record.docker_port, self._door.cert_path) if path else None
        self._changed = asyncio.Event()
        self._shown: Published | None = None

    async def run(self) -> None:
        """Work until QEMU ends."""
        loop = asyncio.get_running_loop()

        def changed() -> None:
            # The loop may be closed already: the process is about to end then.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._changed.set)

        if self._socket:
            self._socket.open()
        start_following(self._door, changed)
        work = [self._reconcile_for_ever(), self._answer_guest(), self._keep_clock(), self._until_gone()]
        work.append(denied.keep(self._instance, self._record))
        work += [self._socket.serve()] if self._socket else []
        tasks = [asyncio.create_task(each) for each in work]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    async def _until_gone(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()

    async def _keep_clock(self) -> None:
        while True:
            await asyncio.to_thread(clock.keep_clock, self._instance)
            await asyncio.sleep(clock.PERIOD)

    async def _answer_guest(self) -> None:
        await channel.serve(Address.from_text(self._record.desktop_ports), self._ledger, self._record.publish)

    async def _reconcile_for_ever(self) -> None:
        while True:
            # Events that come while a list is read are one further round: bursts cost no more.
            self._changed.clear()
            problem = await self._reconcile()
            self._show(summary(self._ledger.wanted, self._ledger.refused, problem))
            again = RETRY_SECONDS if problem or not self._ledger.settled else None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), again)
                # A start and an end are several events each.
                await asyncio.sleep(SETTLE_SECONDS)

    async def _reconcile(self) -> str:
        """One round; why Docker did not tell what it runs, if so: then everything stays as it is."""
        problem = ""
        for _ in range(_TRIES):
            try:
                found = wanted(await asyncio.to_thread(self._containers.running))
            except Unreachable as error:
                problem = f"Docker does not say what it runs ({type(error).__name__})"
                continue
            await self._ledger.reconcile(found)
            return ""
        return problem

    def _show(self, content: Published) -> None:
        if self._socket:
            content = content.model_copy(update={"socket": str(self._socket.path), "socket_problem": self._socket.problem})
        if content != self._shown:
            write(self._instance, content)
            self._shown = content
            print(content.model_dump_json(), flush=True)


async def keep(instance: Instance, record: Record) -> None:
    """Connect to QEMU and keep its forwards until it ends. Raises QMPError, OSError, EOFError."""
    client = await connected(Address.from_text(record.keeper_qmp))
    # Nobody reads QEMU's events here: let none pile up.
    client.events.event_filter = lambda _: False
    try:
        await Keeper(instance, record, client).run()
    finally:
        with suppress(QMPError, OSError, EOFError):
            await client.disconnect()


def main(name: str) -> None:
    """Run the keeper of an instance, unless there is one already.

    Raises:
        InstanceError: the instance does not run.
    """
    instance = Instance(name)
    record = instance.record
    if record is None or not record.keeper_qmp:
        raise InstanceError(f"instance `{name}` does not run", hint="`inv boot` boots it, and starts this.")
    if not instance.keeper_lock.acquire(_LOCK_SECONDS):
        return
    with instance.keeper_lock.holding():
        try:
            asyncio.run(keep(instance, record))
        except (QMPError, OSError, EOFError) as error:
            # QEMU went while it was spoken to.
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            instance.published.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
