"""The look-ups that verdicts need: dockerd's objects, the file system, and which images may have the socket."""

from __future__ import annotations

from collections.abc import Sequence

from cofferdam_guest.apiproxy.engine import Engine
from cofferdam_guest.apiproxy.images.socketimages import SocketImages
from cofferdam_guest.apiproxy.publish import DesktopPorts


class LiveFacts(Engine):
    """See judge.request.Facts."""

    def __init__(self, path: str, images: SocketImages, desktop: DesktopPorts, shares: Sequence[str]) -> None:
        super().__init__(path)
        self._images, self._desktop, self.shares = images, desktop, shares

    async def socket_mount_allowed(self, image: str) -> bool:
        """Whether an image may have the Docker socket."""
        return (await self._images.allowed(image)).allowed

    async def desktop_port_refusal(self, container: str, ports: Sequence[tuple[str, int]]) -> str:
        """Have the desktop open ports; why it cannot, else empty."""
        return await self._desktop.refusal(container, ports)
