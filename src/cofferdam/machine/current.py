"""Which docker context is the current one: a key of docker's config.json, of which nothing else is ever changed.

It is written here also where the docker program is: that one replaces a file that it cannot read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cofferdam.errors import CofferdamError
from cofferdam.machine.hostos import write_private

DEFAULT = "default"
OVERRIDES = ("DOCKER_HOST", "DOCKER_CONTEXT")
"""Variables that win over the current context."""
_KEY = "currentContext"


class ConfigUnusable(CofferdamError):
    """docker's config.json cannot be read, or cannot be written; it is as it was."""


def identity(name: str) -> str:
    """Name of the directories in which docker keeps a context."""
    return hashlib.sha256(name.encode()).hexdigest()


def exists(config: Path, name: str) -> bool:
    """Whether there is a context of that name; the default one always is."""
    return name == DEFAULT or (config / "contexts" / "meta" / identity(name) / "meta.json").exists()


def current(config: Path) -> str:
    """Name of the current context.

    Args:
        config: docker's configuration directory.

    Raises:
        ConfigUnusable: nobody can tell.
    """
    return _name(_file(config), _settings(_file(config)))


def make_current(config: Path, name: str) -> None:
    """Make a context the current one.

    Raises:
        ConfigUnusable: it is not.
    """
    file = _file(config)
    settings = _settings(file)
    if _name(file, settings) == name:
        return
    settings.pop(_KEY, None)
    if name != DEFAULT:
        settings[_KEY] = name
    try:
        _replace(file, json.dumps(settings, indent="\t", ensure_ascii=False))
    except OSError as error:
        raise ConfigUnusable(f"{file} cannot be written: {error.strerror}", hint=f"Mend the rights of {file}.") from error


def give_back(config: Path, name: str, former: Sequence[str]) -> str | None:
    """Let the first of the former contexts that there still is be the current one, if `name` is it now; which one that is.

    Raises:
        ConfigUnusable: nothing was changed.
    """
    if current(config) != name:
        return None
    following = next((each for each in former if each != name and exists(config, each)), DEFAULT)
    make_current(config, following)
    return following


def overridden() -> list[str]:
    """The variables of this environment that win over the current context."""
    return [name for name in OVERRIDES if os.environ.get(name)]


def _file(config: Path) -> Path:
    # Behind a link when the user keeps settings elsewhere: the link stays.
    return (config / "config.json").resolve()


def _settings(file: Path) -> dict[str, Any]:
    hint = f"Mend or remove {file}; until then name the context: docker --context NAME."
    try:
        text = file.read_text(encoding="utf-8")
        settings = json.loads(text) if text.strip() else {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigUnusable(f"{file} cannot be read: {error.strerror}", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise ConfigUnusable(f"{file} is not JSON and is left alone: {error}", hint=hint) from error
    if not isinstance(settings, dict):
        raise ConfigUnusable(f"{file} is not an object of JSON and is left alone", hint=hint)
    return settings


def _name(file: Path, settings: dict[str, Any]) -> str:
    name = settings.get(_KEY, "")
    if not isinstance(name, str):
        raise ConfigUnusable(f"{file}: {_KEY} is not a text; the file is left alone", hint=f"Remove the key from {file}.")
    return name or DEFAULT


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o600
    write_private(file, text + "\n")
    file.chmod(mode)
