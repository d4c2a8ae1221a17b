"""What all parts of the menu share: how an error of a user ends, and what options that many verbs have are for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from invoke.exceptions import Exit

from cofferdam.errors import CofferdamError

PROFILE = "image recipe, a file in profiles/"
NAME = "instance"
JSON = "print JSON for scripts"


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a user error into its message, next step, log and exit status; anything else is a bug and keeps its traceback."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except CofferdamError as error:
            parts = [f"error: {error}"]
            parts += [f"  log: {error.log}"] if error.log else []
            parts += [f"  next: {error.hint}"] if error.hint else []
            raise Exit("\n".join(parts), code=error.exit_code) from None
        except KeyboardInterrupt:
            raise Exit("interrupted; nothing half-made was kept", code=130) from None

    return wrapper
