"""Answers the runtime wrapper's one question: may a container of this image have the Docker socket?

The wrapper asks at every start, with the id that dockerd's own record names, so that the answer does not depend on what a request
to create said, nor on whether there was one (restart policies).
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.images.socketimages import SocketImages, denial

PATH = "/run/cofferdam/socket-mounts.sock"
_LINE = 4096
_TIME = 30.0


class Decisions:
    """Serves `{"image": ID, "name": NAME}` lines with `{"allowed": BOOL, "message": TEXT}` lines, one a connection."""

    def __init__(self, images: SocketImages) -> None:
        self._images = images

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection; whatever goes wrong is a no."""
        answer = {"allowed": False, "message": "the question was not understood"}
        try:
            async with asyncio.timeout(_TIME):
                question = json.loads(await reader.readline())
                verdict = await self._images.allowed(str(question["image"]))
                allowed = verdict.allowed and verdict.id in ("", question["image"])
                answer = {"allowed": allowed, "message": "" if allowed else denial(str(question["name"]))}
        except (Denied, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            answer["message"] = f"the image could not be judged: {type(error).__name__}"
        finally:
            with suppress(OSError):
                writer.write(json.dumps(answer).encode("ascii") + b"\n")
                await writer.drain()
            writer.close()

    async def listen(self, path: str = PATH) -> asyncio.Server:
        """Open the socket, in place of one that an earlier process left; the caller's umask keeps it root's."""
        return await asyncio.start_unix_server(self.serve, path, limit=_LINE)
