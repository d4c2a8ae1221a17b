"""The messenger: hands refusals to the host over the virtio port `org.cofferdam.denied`, one JSON object a line.

The engine and the API proxy tell it by datagrams, as they tell the journal (descriptor 3 of a socket-activated service). It
starts with the first refusal and ends when there is nothing to do: a machine that refuses nothing pays nothing.
"""

import json
import os
import select
import time
from collections import deque

from cofferdam_guest.agent.main import open_port
from cofferdam_guest.linux import journal

PORT_NAME = "org.cofferdam.denied"
SOCKET_FD = 3
# What waits for a host that does not listen; the oldest goes first.
MOST = 1000
# Field -> most characters of it. All of them together are one write to the port (32 KiB), whatever characters they are.
FIELDS = {"rule": 256, "reason": 1000, "request": 256, "container": 256, "image": 256, "door": 256, "peer": 256}
_DATAGRAM = 1 << 17
_IDLE_MILLISECONDS = 60_000
_ABSENT_MILLISECONDS = 1000
_PORT_SECONDS = 30.0


def line(datagram: bytes, now: float) -> bytes:
    """A refusal as the host reads it; `now` in seconds since 1970, UTC."""
    said = journal.fields(datagram)
    values = {name: said.get(f"COFFERDAM_{name.upper()}", "")[:most] for name, most in FIELDS.items()}
    return json.dumps({"time": round(now, 3), **values}, separators=(",", ":")).encode("ascii") + b"\n"


class Messenger:
    """Copies refusals from a datagram socket to the host; keeps them while nobody listens there.

    Args:
        source: descriptor of the datagram socket.
        port: descriptor of the virtio port, non-blocking.
        idle: milliseconds after which there is nothing to do.
    """

    def __init__(self, source: int, port: int, idle: int = _IDLE_MILLISECONDS) -> None:
        self._source, self._port, self._idle = source, port, idle
        self._sent = 0
        self.waiting: deque[bytes] = deque()

    def step(self) -> bool:
        """Wait for the next thing to do, and do it; false when there has been none for long."""
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        if not self.waiting:
            # Not the port as well: while nobody listens there it is ready for ever.
            return self._take(poll.poll(self._idle))
        poll.register(self._port, select.POLLOUT)
        ready = dict(poll.poll())
        if ready.get(self._port, 0) & (select.POLLHUP | select.POLLERR):
            # The next host begins with a whole line.
            self._sent = 0
            poll.unregister(self._port)
            self._take(poll.poll(_ABSENT_MILLISECONDS))
            return True
        self._take([pair for pair in ready.items() if pair[0] == self._source])
        if self._port in ready:
            self._write()
        return True

    def _take(self, ready: list[tuple[int, int]]) -> bool:
        if not ready:
            return False
        self.waiting.append(line(os.read(self._source, _DATAGRAM), time.time()))
        if len(self.waiting) > MOST:
            # Not one of which a part has been sent.
            del self.waiting[1 if self._sent else 0]
        return True

    def _write(self) -> None:
        try:
            self._sent += os.write(self._port, self.waiting[0][self._sent :])
        except (BlockingIOError, ConnectionError):
            return
        if self._sent == len(self.waiting[0]):
            self.waiting.popleft()
            self._sent = 0


def main() -> None:
    """Run until there is nothing to do; without a port there is nobody to tell."""
    port = open_port(PORT_NAME, time.monotonic() + _PORT_SECONDS)
    if port is None:
        # Read all the same: systemd would start this again and again for what lies in the socket.
        port = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    messenger = Messenger(SOCKET_FD, port)
    while messenger.step():
        pass
