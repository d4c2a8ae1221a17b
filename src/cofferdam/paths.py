"""Where things lie on the host: project, cache, instance state and short run-time directories."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The project's root (this package is always installed in editable mode from a checkout)."""


def _home(variable: str, xdg: str, fallback: str) -> Path:
    if own := os.environ.get(variable):
        return Path(own).absolute()
    if base := os.environ.get(xdg):
        return Path(base).absolute() / "cofferdam"
    return Path.home() / fallback / "cofferdam"


def cache_home() -> Path:
    """Directory of cached stages: $COFFERDAM_CACHE_HOME, $XDG_CACHE_HOME/cofferdam or ~/.cache/cofferdam."""
    return _home("COFFERDAM_CACHE_HOME", "XDG_CACHE_HOME", ".cache")


def state_home() -> Path:
    """Directory of instances and their data disks: $COFFERDAM_STATE_HOME, $XDG_STATE_HOME/cofferdam or ~/.local/state."""
    return _home("COFFERDAM_STATE_HOME", "XDG_STATE_HOME", ".local/state")


def runtime_dir() -> Path:
    """Private directory (0700) with a short path, for Unix sockets (`sun_path` holds 108 bytes); created when missing.

    Raises:
        PermissionError: the directory exists and belongs to somebody else.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    uid = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(base) / "cofferdam" if base else Path(tempfile.gettempdir()) / f"cofferdam-{uid}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if hasattr(os, "getuid") and (status.st_uid != uid or path.is_symlink()):
        raise PermissionError(f"{path} belongs to another user")
    path.chmod(0o700)
    return path
