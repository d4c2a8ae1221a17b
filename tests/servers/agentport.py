"""The guest's own agent at the other end of an instance's ready port, one host after the other."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cofferdam_guest.agent.main import Agent
from cofferdam_guest.agent.messages import event


@contextmanager
def agent_at(port: Path, history: Mapping[str, float]) -> Iterator[None]:
    """Serve a port for the length of the block.

    Args:
        port: the socket.
        history: what the agent has to tell of before, and at how many seconds of uptime.
    """
    notes, notes_in = os.pipe()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(port))
        server.listen(1)
        thread = threading.Thread(target=_serve, args=(server, notes, history))
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
    os.close(notes)
    os.close(notes_in)


def _serve(server: socket.socket, notes: int, history: Mapping[str, float]) -> None:
    agent = None
    while True:
        try:
            port, _ = server.accept()
        except OSError:
            return
        with port:
            port.setblocking(False)
            if agent is None:
                agent = Agent(notes, port.fileno())
                for name, uptime in history.items():
                    agent.history.add(event(name, uptime))
            agent._port = port.fileno()
            agent.history.restart()
            while not _hung_up(port):
                agent.step()


def _hung_up(port: socket.socket) -> bool:
    poll = select.poll()
    poll.register(port, 0)
    return bool(poll.poll(0))
