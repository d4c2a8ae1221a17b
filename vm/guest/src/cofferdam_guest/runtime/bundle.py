"""Read the container's specification; the transformed one is a private copy, the bundle stays as it came."""

from __future__ import annotations

import os

from cofferdam_guest.config import jsonlite
from cofferdam_guest.runtime.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "config.json"
_LIMIT = 64 << 20


def load(directory: str) -> dict[str, Any]:
    """Return the specification in the bundle `directory`. Raises Refusal when there is no usable one."""
    path = os.path.join(directory, NAME)
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
        spec = jsonlite.loads(data.decode("utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal("spec", f"{path}: {error}") from error
    if len(data) > _LIMIT or not isinstance(spec, dict):
        raise Refusal("spec", f"{path}: not a container specification")
    return spec


def store(spec: dict[str, Any], path: str) -> None:
    """Write `spec` to the new file `path`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(jsonlite.dumps(spec))
