"""What differs between Linux, macOS and Windows: locks, process identity, private files. Nothing else asks which host this is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cofferdam.run import CommandError, run

WINDOWS = sys.platform == "win32"

# Of Windows' winnt.h, minwinbase.h and winioctl.h.
_QUERY_LIMITED_INFORMATION = 0x1000
_STILL_ACTIVE = 259
_SET_SPARSE = 0x900C4


def private_directory(path: Path) -> Path:
    """Make a directory that only its owner can enter (0700); parents as well, when missing."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, data: bytes | str) -> Path:
    """Replace a file by one rename; only its owner can read it (0600) from the first byte on."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as sink:
        sink.write(data.encode() if isinstance(data, str) else data)
        sink.flush()
        os.fsync(sink.fileno())
    temporary.replace(path)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON file, private and whole or not at all."""
    return write_private(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


class FileLock:
    """An exclusive lock that the kernel drops when the last holder of its descriptor ends, however it ends.

    A process that inherits `fileno()` keeps the lock held: that is how an instance is locked exactly as long as its QEMU lives.
    Windows locks belong to one process and are not inherited; there, liveness comes from the process's identity.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Try for up to `timeout` seconds; true when held."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout
        while not _try_lock(handle):
            if time.monotonic() >= deadline:
                os.close(handle)
                return False
            time.sleep(0.02)
        self._handle = handle
        return True

    def fileno(self) -> int:
        """Descriptor to hand on to a child."""
        if self._handle is None:
            raise ValueError(f"{self.path} is not locked")
        return self._handle

    def release(self) -> None:
        """Close this process's descriptor; the lock stays while a child holds it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def held_by_another(self) -> bool:
        """Whether somebody holds the lock now."""
        try:
            handle = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            # Shared: two that only ask must not take each other for the holder.
            return not _try_lock(handle, shared=True)
        finally:
            os.close(handle)

    @property
    def current(self) -> bool:
        """Whether the file that is locked here is still the one at that path."""
        try:
            return os.path.samestat(os.fstat(self.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Release at the end of the block; for a lock that has been acquired."""
        try:
            yield
        finally:
            self.release()


def _try_lock(handle: int, *, shared: bool = False) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def process_start(pid: int) -> str | None:
    """When a process started, in the host's own notation; none when there is no such process (or only its zombie).

    A pid together with this value names one process for ever; a pid alone is used again.
    """
    if sys.platform == "linux":
        return _linux_start(pid)
    if sys.platform == "win32":
        return _windows_start(pid)
    try:
        return run(["ps", "-o", "lstart=", "-p", str(pid)], capture=True, timeout=20).stdout.strip() or None
    except CommandError:
        return None


def _linux_start(pid: int) -> str | None:
    try:
        # The name in field 2 may hold blanks and parentheses; the fields after the last `)` do not.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _windows_start(pid: int) -> str | None:
    """By the system's own calls: PowerShell takes a second for it, and waiting for an end asks twenty times a second."""
    if sys.platform != "win32":
        return None
    import ctypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.OpenProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid))
    if not process:
        return None
    try:
        status, times = ctypes.c_uint32(), [ctypes.c_uint64() for _ in range(4)]
        alive = kernel.GetExitCodeProcess(process, ctypes.byref(status)) and status.value == _STILL_ACTIVE
        told = alive and kernel.GetProcessTimes(process, *map(ctypes.byref, times))
        return str(times[0].value) if told else None
    finally:
        kernel.CloseHandle(process)


def make_sparse(handle: int) -> None:
    """Let the holes of a file take no room: unasked on Linux and macOS; on Windows each file has to be told, before it grows."""
    if sys.platform != "win32":
        return
    import ctypes
    import msvcrt

    file, written = ctypes.c_void_p(msvcrt.get_osfhandle(handle)), ctypes.c_uint32()
    # A file system that knows no such files says no; then the file takes its size, as it would anyway.
    ctypes.windll.kernel32.DeviceIoControl(file, _SET_SPARSE, None, 0, None, 0, ctypes.byref(written), None)


def end_process(pid: int, start: str | None, *, force: bool = False) -> bool:
    """Ask a process to end, or end it; only when it is still the same process. False when it is gone."""
    if start is None or process_start(pid) != start:
        return False
    kind = signal.SIGTERM
    if sys.platform != "win32" and force:
        kind = signal.SIGKILL
    # Windows has another error for a process that has just gone.
    with contextlib.suppress(OSError if WINDOWS else ProcessLookupError):
        os.kill(pid, kind)
        return True
    return False


def wait_until(condition: Callable[[], bool], timeout: float, step: float = 0.05) -> bool:
    """Wait for something that the host gives no event for; true when it came to hold within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(step)
    return True
