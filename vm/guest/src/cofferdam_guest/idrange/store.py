"""Who holds which id range: one text file on tmpfs, changed under a lock by atomic rename.

A range belongs to a user namespace; a container that joins another's namespaces holds the same range. It is free again
when its last holder is gone. Nobody has to be told about a crash: a holder counts while its container is in the low-level
runtime's state directory, or while the process that is creating it lives.
"""

from __future__ import annotations

import fcntl
import os

from cofferdam_guest.idrange.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORY = "/run/cofferdam/idrange"


class AlreadyHeld(Exception):
    """The container exists already."""


class Holder:
    """A container (state directory `root`, `id`) in the range from `base`, created by process `pid` begun at `started`."""

    __slots__ = ("base", "id", "pid", "root", "started", "userns")

    def __init__(self, base: int, userns: int, pid: int, started: int, root: str, id: str) -> None:
        self.base = base
        self.userns = userns
        self.pid = pid
        self.started = started
        self.root = root
        self.id = id

    def line(self) -> str:
        """Return the holder as it stands in the file."""
        return f"{self.base} {self.userns} {self.pid} {self.started} {self.id} {self.root}\n"


def parse(text: str) -> list[Holder]:
    """Return the holders in `text`. Raises ValueError on anything else: a damaged store must not lead to a shared range."""
    holders = []
    for line in text.splitlines():
        base, userns, pid, started, container, root = line.split(" ", 5)
        holders.append(Holder(int(base), int(userns), int(pid), int(started), root, container))
    return holders


def read(directory: str) -> list[Holder]:
    """Return the holders in the store's file, none when there is no file."""
    try:
        with open(f"{directory}/holders", encoding="utf-8") as file:
            return parse(file.read())
    except FileNotFoundError:
        return []


def process_start(pid: int) -> int | None:
    """Return the start time of process `pid` in clock ticks since boot, None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_live(holder: Holder) -> bool:
    """Tell whether the holder's container exists or is being created."""
    return os.path.exists(f"{holder.root}/{holder.id}") or process_start(holder.pid) == holder.started


class Store:
    """The holders on disk. Every method takes the lock, drops the dead, and writes only what changed."""

    def __init__(self, directory: str = DIRECTORY, live: Callable[[Holder], bool] = is_live) -> None:
        self._directory = directory
        self._live = live

    def claim(self, pool: Pool, userns: int, root: str, container: str) -> int:
        """Give the lowest free range to a new container and return its first id.

        Raises PoolExhausted, and AlreadyHeld when the container is there already.
        """
        with _Locked(self._directory) as lock:
            holders = self._living(lock.read(), root, container)
            for each in holders:
                if each.userns == userns:
                    each.userns = 0  # that namespace has ended and the kernel gave its number to ours
            base = pool.lowest_free({each.base for each in holders})
            lock.write([*holders, _here(base, userns, root, container)])
            return base

    def join(self, userns: int, root: str, container: str) -> tuple[int, list[str]] | None:
        """Make a new container a holder of the range that user namespace `userns` has.

        Returns its first id and the containers already there, or None when no container of ours owns that namespace.
        """
        with _Locked(self._directory) as lock:
            holders = self._living(lock.read(), root, container)
            others = [each for each in holders if each.userns == userns]
            if not others:
                return None
            lock.write([*holders, _here(others[0].base, userns, root, container)])
            return others[0].base, [each.id for each in others]

    def release(self, root: str, container: str) -> None:
        """Forget a container; releasing twice does no harm."""
        with _Locked(self._directory) as lock:
            holders = lock.read()
            rest = [each for each in holders if (each.root, each.id) != (root, container)]
            if len(rest) != len(holders):
                lock.write(rest)

    def holders(self) -> list[Holder]:
        """Return all holders, the dead included."""
        with _Locked(self._directory) as lock:
            return lock.read()

    def _living(self, holders: list[Holder], root: str, container: str) -> list[Holder]:
        living = [each for each in holders if self._live(each)]
        if any((each.root, each.id) == (root, container) for each in living):
            raise AlreadyHeld(f"container {container} exists already")
        return living


class _Locked:
    """The file under its lock."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, 0o700, exist_ok=True)
        self._directory, self._path = directory, directory + "/holders"
        self._lock = os.open(directory + "/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> _Locked:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def read(self) -> list[Holder]:
        return read(self._directory)

    def write(self, holders: list[Holder]) -> None:
        # a name that nobody can have made before: dockerd makes missing bind sources as directories, wherever it is told to
        temporary = f"{self._path}.{os.getpid()}.{os.urandom(8).hex()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write("".join(each.line() for each in holders))
        os.rename(temporary, self._path)


def _here(base: int, userns: int, root: str, container: str) -> Holder:
    """A holder made by this process, which will become the low-level runtime by exec and keeps its id."""
    pid = os.getpid()
    started = process_start(pid)
    if started is None:
        raise OSError(3, "/proc does not show this process")
    return Holder(base, userns, pid, started, root, container)
