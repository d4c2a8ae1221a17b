"""dockerd's containers over the instance's TLS door: their list, and a call for every change of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import docker
import docker.errors
import urllib3.exceptions

from cofferdam.machine.door import Door, connect

# What a connection to a restarting dockerd ends with; a broken line of JSON among it.
Unreachable = (docker.errors.DockerException, urllib3.exceptions.HTTPError, OSError, ValueError)
_EVENTS = {"type": ["container", "network"], "event": ["start", "die", "rename", "connect", "disconnect"]}
_LIST_SECONDS = 20
_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Containers:
    """The list of running containers, for one thread at a time.

    The connection is kept: a TLS handshake is most of what a short request costs the guest.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._client: docker.DockerClient | None = None

    def running(self) -> Any:
        """The answer of `GET /containers/json`. Raises one of `Unreachable`."""
        try:
            if self._client is None:
                self._client = connect(self._door, _LIST_SECONDS)
            return self._client.api.containers()
        except Unreachable:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection; the next list makes another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def follow(door: Door, changed: Callable[[], None], events: dict[str, list[str]] = _EVENTS) -> None:
    """Call `changed` once it listens to dockerd's events, and for each of them; never returns, connects again for ever."""
    pause = _PAUSE
    while True:
        start = time.monotonic()
        with suppress(*Unreachable):
            _follow_once(door, changed, events)
        # One that ended at once was refused or is starting: each further try waits longer.
        pause = _PAUSE if time.monotonic() - start > _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
        time.sleep(pause)


def _follow_once(door: Door, changed: Callable[[], None], events: dict[str, list[str]]) -> None:
    client = connect(door)
    try:
        stream = client.api.events(filters=events)
        # Now nothing is missed any more: what happened before is in the list.
        changed()
        for _ in stream:
            changed()
    finally:
        client.close()


def start_following(door: Door, changed: Callable[[], None], events: dict[str, list[str]] = _EVENTS) -> None:
    """`follow` in a thread that does not keep the process alive."""
    threading.Thread(target=follow, args=(door, changed, events), daemon=True).start()
