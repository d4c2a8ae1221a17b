"""A shared directory as it is written on the command line."""

from __future__ import annotations

import os
from pathlib import Path

from cofferdam.guestconfig import shares


def share_text(text: str) -> str:
    """`PATH` or `PATH:ro` with the path absolute and normal.

    Raises:
        ValueError: the VM could not mount it there.
    """
    path, mode = (text[:-3], text[-3:]) if text.endswith((":ro", ":rw")) else (text, "")
    if not path:
        raise ValueError("name a directory, such as `$HOME/src` or `$HOME/data:ro`")
    # Not `resolve`: the path is the one that users write, with its links.
    path = os.path.normpath(Path(path).expanduser().absolute())
    if reason := shares.problem(path):
        raise ValueError(f"{path} cannot be shared: {reason}")
    return path + (mode if mode == ":ro" else "")
