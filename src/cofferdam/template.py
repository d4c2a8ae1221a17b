"""Templates: Jinja2 with StrictUndefined, so that a missing value is an error and never an empty string."""

from __future__ import annotations

from pathlib import Path

import jinja2

from cofferdam.errors import BuildError

_ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - not HTML


def render(source: str | Path, **values: object) -> str:
    """Render a template text or file with the given values.

    Raises:
        BuildError: the template does not parse, or names a value that is not given.
    """
    name = str(source) if isinstance(source, Path) else "template"
    text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
    try:
        return _ENVIRONMENT.from_string(text).render(**values)
    except jinja2.TemplateError as error:
        raise BuildError(f"{name}: {error}", hint="Give the missing value or correct the template.") from error
