"""What the proxy itself asks dockerd: look-ups for verdicts, and whether it is there."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.http.answers import BadAnswer
from cofferdam_guest.apiproxy.http.backend import connect

SOCKET = "/run/cofferdam/engine/docker.sock"
_VERSION = "1.45"
_LIMIT = 16 << 20


class Engine:
    """dockerd, by its socket."""

    def __init__(self, path: str = SOCKET) -> None:
        self.path = path

    async def volume(self, name: str) -> dict[str, Any] | None:
        """A volume's inspection, None when there is none. Raises Denied."""
        return await self._object(f"/volumes/{quote(name, safe='')}")

    async def container(self, name: str) -> dict[str, Any] | None:
        """A container's inspection, None when there is none. Raises Denied."""
        return await self._object(f"/containers/{quote(name, safe='')}/json")

    async def image(self, name: str) -> dict[str, Any] | None:
        """An image's inspection, None when there is none. Raises Denied."""
        return await self._object(f"/images/{quote(name, safe='/:@')}/json")

    async def images(self, repository: str) -> list[str]:
        """Ids of the local images in a repository, by its short name. Raises Denied."""
        filters = quote(json.dumps({"reference": [repository]}), safe="")
        found = await self._get(f"/images/json?filters={filters}")
        return [str(image["Id"]) for image in found or []]

    async def resolve(self, path: str) -> str:
        """The path with the links of the VM followed; missing parts stay."""
        return os.path.realpath(path)

    async def ready(self) -> bool:
        """Whether dockerd answers."""
        try:
            return await self._status("/_ping") == 200
        except (Denied, BadAnswer):
            return False

    async def discard(self, container: str) -> None:
        """Remove a container and its anonymous volumes; one that is gone already is no error."""
        with suppress(Denied, BadAnswer):
            await self._status(f"/v{_VERSION}/containers/{quote(container, safe='')}?force=1&v=1", "DELETE")

    async def _status(self, target: str, method: str = "GET") -> int:
        backend = await connect(self.path)
        try:
            await backend.send(method, target, [(b"Connection", b"close")])
            return (await backend.answer()).status
        finally:
            backend.close()

    async def _object(self, target: str) -> dict[str, Any] | None:
        found = await self._get(target)
        if found is not None and not isinstance(found, dict):
            raise Denied(503, "look-up", "the Docker engine answered a look-up with something else")
        return found

    async def _get(self, target: str) -> Any:
        """The JSON at a path; None for 404. Raises Denied for anything else: what cannot be looked up is not allowed."""
        backend = await connect(self.path)
        try:
            await backend.send("GET", f"/v{_VERSION}{target}", [(b"Connection", b"close")])
            head = await backend.answer()
            if head.status == 404:
                return None
            document = json.loads(await backend.whole_body(head, "GET", _LIMIT))
        except (BadAnswer, ValueError) as error:
            raise Denied(503, "no-engine", f"the Docker engine did not answer a look-up: {error}") from error
        finally:
            backend.close()
        if head.status != 200:
            # a name that dockerd refuses as such: its own words
            message = document.get("message") if isinstance(document, dict) else None
            raise Denied(
                400 if head.status == 400 else 503, "look-up", str(message or f"a look-up ended with status {head.status}")
            )
        return document
