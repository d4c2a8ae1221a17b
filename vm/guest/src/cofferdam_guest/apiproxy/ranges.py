"""What `docker inspect` shows of a container's isolation: the ids of the machine that its own ids 0, 1, … are."""

from __future__ import annotations

from typing import Any

from cofferdam_guest.config import engine
from cofferdam_guest.idrange import store

KEY = "Cofferdam"


def with_range(document: dict[str, Any], directory: str = store.DIRECTORY, settings: str = engine.PATH) -> dict[str, Any]:
    """The answer to an inspect with `{"Cofferdam": {"IdRange": {"First": ID, "Size": COUNT}}}`; as it is for a container without.

    A range belongs to a container that runs. Read without the store's lock: its file is only ever replaced as a whole.
    """
    try:
        held = next((each for each in store.read(directory) if each.id == document.get("Id")), None)
        if held is None:
            return document
        return {**document, KEY: {"IdRange": {"First": held.base, "Size": engine.load(settings).size}}}
    except (OSError, ValueError, engine.SettingsError):
        # Telling never fails the request.
        return document
