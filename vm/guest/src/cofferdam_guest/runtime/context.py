"""What the modifiers share about the container that is being started."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.config.engine import EngineSettings
    from cofferdam_guest.idrange.store import Store
    from cofferdam_guest.linux.mountinfo import Mount
    from cofferdam_guest.linux.namespaces import Nursery


class Context:
    """One container's start.

    root, container, bundle   as on the command line; bundle is absolute
    joins     namespaces to share with another container: {type: open descriptor}
    userns    descriptor of the container's user namespace
    base      first id of its range
    user      user and group that its first process has in it
    family    containers whose namespaces it shares
    claimed   whether the range store knows of it and must forget it on failure
    mounts    the VM's mount table, read before the wrapper mounts anything
    nodes     device nodes to make: {path: (type, major, minor)}
    unmapped  descriptor of the root as dockerd mounted it
    rootfs    descriptor of the container's root mount, the same files with the container's ids
    read_only whether that root is to be read-only
    """

    def __init__(self, settings: EngineSettings, store: Store, root: str, container: str, bundle: str) -> None:
        self.settings = settings
        self.store = store
        self.root = root
        self.container = container
        self.bundle = os.path.realpath(bundle)
        self.joins: dict[str, int] = {}
        self.nursery: Nursery | None = None
        self.userns = -1
        self.base = -1
        self.user = (0, 0)
        self._share_userns = -1
        self.family: list[str] = []
        self.claimed = False
        self.mounts: dict[int, Mount] = {}
        self.nodes: dict[str, tuple[str, int, int]] = {}
        self.unmapped = -1
        self.rootfs = -1
        self.read_only = False
        self._host_config: dict[str, Any] | None = None

    def share_userns(self) -> int:
        """Descriptor of the user namespace that maps shares: what belongs to the desktop's user belongs to the container's user.

        On a share there is one user, and the server shows it as 0.
        """
        if self.user == (0, 0):
            return self.userns
        if self._share_userns < 0:
            from cofferdam_guest.linux.namespaces import Nursery

            nursery = Nursery()
            try:
                nursery.map_ids(self.base, self.settings.size, *self.user)
                self._share_userns = nursery.user
            finally:
                nursery.close()
        return self._share_userns

    @property
    def is_build(self) -> bool:
        """Whether dockerd's BuildKit made the bundle; nobody outside the VM chooses where bundles are."""
        return self.bundle.startswith(self.settings.docker_root + "/buildkit/executor/")

    def host_config(self) -> dict[str, Any]:
        """Return what the user asked dockerd for; empty for builds. Raises OSError or ValueError when it is unreadable."""
        if self._host_config is None:
            self._host_config = {}
            if not self.is_build:
                from cofferdam_guest.config import jsonlite

                path = f"{self.settings.docker_root}/containers/{self.container}/hostconfig.json"
                try:
                    with open(path, encoding="utf-8") as file:
                        self._host_config = jsonlite.loads(file.read()) or {}
                except FileNotFoundError:
                    pass  # not a container of dockerd's
        return self._host_config

    def is_privileged(self) -> bool:
        """Whether the user said --privileged."""
        return bool(self.host_config().get("Privileged"))

    def undo(self) -> None:
        """Give back what outlives this process."""
        if self.nursery is not None:
            self.nursery.close()
        if self.claimed:
            self.store.release(self.root, self.container)
