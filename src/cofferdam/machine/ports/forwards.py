"""Host forwards of a running QEMU: read off QEMU itself, opened and closed over its monitor. No state is kept here."""

from __future__ import annotations

import errno
import re
import socket
import sys
from collections.abc import Collection
from typing import cast

from qemu.qmp import QMPClient

from cofferdam.image.kernelline import GUEST_ADDRESS
from cofferdam.machine.cmdline import NETDEV
from cofferdam.machine.ports.wanted import Port, Protocol

# `TCP[HOST_FORWARD]   9       127.0.0.1 45559       10.0.2.15    80     0     0`, a line of `info usernet`
_FORWARD = re.compile(rf"^\s*(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+{re.escape(GUEST_ADDRESS)}\s+(\d+)\s", re.MULTILINE)
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_REASONS = {
    errno.EADDRINUSE: "port {port} of the desktop is in use by another program",
    errno.EACCES: "port {port} of the desktop is reserved for privileged programs",
    errno.EADDRNOTAVAIL: "the desktop has no address {address}",
}
# Each is an open file of QEMU, of which it has 1024 as a rule.
MOST = 512


def parse_forwards(text: str) -> set[Port]:
    """The forwards to the guest's port of the same number, in an answer of `info usernet`."""
    return {Port(cast(Protocol, proto.lower()), int(host)) for proto, host, guest in _FORWARD.findall(text) if host == guest}


def probe(address: str, port: Port) -> str:
    """Why a port of this machine cannot be had, empty when it can: QEMU itself does not say why."""
    with socket.socket(socket.AF_INET, _KINDS[port.proto]) as trial:
        if port.proto == "tcp" and sys.platform != "win32":
            # as QEMU does: connections that linger do not count
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port.number))
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, "port {port} of the desktop cannot be had: {error}")
            return reason.format(port=port, address=address, error=error.strerror)
    return ""


class Forwards:
    """The host forwards of one QEMU.

    Args:
        client: a monitor connection.
        address: on which of the host's addresses they listen.
        doors: TCP ports of the instance itself, never touched.
    """

    def __init__(self, client: QMPClient, address: str, doors: Collection[int]) -> None:
        self._client = client
        self.address = address
        self._doors = {Port("tcp", door) for door in doors}

    async def present(self) -> set[Port]:
        """Those that QEMU has now, without the instance's doors."""
        return parse_forwards(await self._command("info usernet")) - self._doors

    async def open(self, port: Port) -> str:
        """Add a forward; the reason when it cannot be had, else empty."""
        if port in self._doors:
            return f"port {port} of the desktop is a door of this instance: Docker's API or ssh"
        reason = probe(self.address, port)
        if reason:
            return reason
        if len(await self.present()) >= MOST:
            return f"{MOST} ports are published already, which is the most"
        rule = f"{port.proto}:{self.address}:{port.number}-{GUEST_ADDRESS}:{port.number}"
        answer = await self._command(f"hostfwd_add {NETDEV} {rule}")
        return f"port {port} of the desktop cannot be had: {answer}" if answer else ""

    async def close(self, port: Port) -> None:
        """Take a forward away; one that is not there is no matter. Connections that exist go on."""
        if port not in self._doors:
            await self._command(f"hostfwd_remove {NETDEV} {port.proto}:{self.address}:{port.number}")

    async def _command(self, line: str) -> str:
        return str(await self._client.execute("human-monitor-command", {"command-line": line})).strip()
