"""QEMU's monitor: a synchronous face of qemu.qmp for the few commands a life cycle needs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError
from qemu.qmp.qmp_client import GreetingError

from cofferdam.errors import InstanceError
from cofferdam.machine.channels import LOOPBACK, Address

_GREETINGS = 3


class Monitor:
    """One connection to a running QEMU; a context manager. QEMU serves one connection at a time.

    Raises:
        InstanceError: nobody answers, or QEMU refuses a command.
    """

    def __init__(self, address: Address, timeout: float = 10.0) -> None:
        self._address = address
        self._timeout = timeout
        self._runner = asyncio.Runner()
        self._client: QMPClient | None = None

    def __enter__(self) -> Self:
        try:
            self._client = self._run(connected(self._address))
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; a second time does nothing."""
        client, self._client = self._client, None
        try:
            if client is not None:
                self._runner.run(_disconnect(client))
        finally:
            self._runner.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(self._timeout):
                return await work

        try:
            return self._runner.run(limited())
        except ExecuteError as error:
            raise InstanceError(f"QEMU refused: {error}", hint="See `inv logs`.") from error
        except (QMPError, OSError, EOFError, TimeoutError) as error:
            text = f"QEMU's monitor does not answer ({type(error).__name__})"
            raise InstanceError(text, hint="`inv stop --force` ends the virtual machine.") from error

    def execute(self, command: str, **arguments: object) -> Any:
        """Run one monitor command and return its answer."""
        if self._client is None:
            raise InstanceError("the monitor is not connected", hint="Use it as a context manager.")
        return self._run(self._client.execute(command, arguments or None))

    def status(self) -> str:
        """QEMU's run state, such as `prelaunch`, `running`, `paused`, `io-error`."""
        return str(self.execute("query-status")["status"])

    def resume(self) -> None:
        """Let the processors run."""
        self.execute("cont")

    def pause(self) -> None:
        """Stop the processors; memory stays."""
        self.execute("stop")

    def press_power_button(self) -> None:
        """Press the ACPI power button."""
        self.execute("system_powerdown")

    def resize_disk(self, node: str, size: int) -> None:
        """Give a disk, named by its block node, `size` bytes; the guest is told by its controller."""
        self.execute("block_resize", **{"node-name": node, "size": size})

    def quit(self) -> None:
        """End QEMU at once, as pulling the plug would."""
        try:
            self.execute("quit")
        except InstanceError as error:
            # QEMU may be gone before its answer is read; a refusal is another matter.
            if isinstance(error.__cause__, ExecuteError):
                raise


async def connected(address: Address) -> QMPClient:
    """A connected client for asynchronous callers. Raises QMPError, OSError, EOFError."""
    client = QMPClient("cofferdam")
    try:
        await _greeted(client, address)
    except AssertionError as error:
        # qemu.qmp 0.0.6 asserts that a session lives at its end: it does not when QEMU ends just then.
        await _disconnect(client)
        raise EOFError("QEMU ended while it was connected to") from error
    return client


async def _greeted(client: QMPClient, address: Address) -> None:
    for left in reversed(range(_GREETINGS)):
        try:
            return await client.connect((LOOPBACK, address.port) if address.port else address.path, address.tls)
        except ConnectError as error:
            # QEMU begins with what it had not yet told to whoever was connected before.
            if not (left and isinstance(error.exc, GreetingError)):
                raise


async def _disconnect(client: QMPClient) -> None:
    try:
        async with asyncio.timeout(2):
            await client.disconnect()
    except (QMPError, OSError, EOFError, TimeoutError):
        # The other side closed first: that is what `quit` is for.
        return
