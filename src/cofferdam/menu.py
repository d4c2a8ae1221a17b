"""What all parts of the menu share: how an error of a user ends, and what options that many verbs have are for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from invoke.exceptions import Exit

from cofferdam.errors import CofferdamError, UsageError

PROFILE = "image recipe, a file in profiles/"
NAME = "instance"
JSON = "print JSON for scripts"
QUIET = "show no progress: only the result, and errors"


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a user error into its message, next step, log and exit status; anything else is a bug and keeps its traceback."""
    wanted = {name for name, parameter in signature(function).parameters.items() if parameter.default is Parameter.empty}

    def refuse_options(given: dict[str, Any]) -> None:
        # What comes first is the argument to Invoke, whatever it is: `keys.new --help` would write into a directory `--help`.
        for name in sorted(wanted & given.keys()):
            if str(given[name]).startswith("-"):
                hint = f"Write it behind the {name.replace('_', '-')}; invoke --help VERB shows what a verb takes."
                raise UsageError(f"`{given[name]}` in the place of the {name.replace('_', '-')}", hint=hint)

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            refuse_options(kwargs)
            return function(*args, **kwargs)
        except CofferdamError as error:
            parts = [f"error: {error}"]
            parts += [f"  log: {error.log}"] if error.log else []
            parts += [f"  next: {error.hint}"] if error.hint else []
            raise Exit("\n".join(parts), code=error.exit_code) from None
        except KeyboardInterrupt:
            raise Exit("interrupted; nothing half-made was kept", code=130) from None

    return wrapper


def working(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb that shows progress the option `--quiet`; its help is QUIET."""

    @wraps(function)
    def wrapper(*args: Any, quiet: bool = False, **kwargs: Any) -> Any:
        # The menu itself must not wait for what prints.
        from cofferdam.progress import quietly

        with quietly(quiet):
            return function(*args, **kwargs)

    own, option = signature(function), Parameter("quiet", Parameter.KEYWORD_ONLY, default=False, annotation=bool)
    wrapper.__signature__ = own.replace(parameters=[*own.parameters.values(), option])  # type: ignore[attr-defined]
    return wrapper
