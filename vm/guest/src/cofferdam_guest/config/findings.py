"""What a check of a settings file found, with its place."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to tell.

    Attributes:
        level: ERROR: the file cannot be used; WARNING: it does not do what it seems to; NOTE: something in it is not for here.
        key: dotted path of the key, empty for the file as a whole.
        message: what is the matter and what to do.
        line: line in the file, from one.
        column: column, from one.
    """

    level: str
    key: str
    message: str
    line: int
    column: int

    def text(self, file: str) -> str:
        """In a line, as compilers print it."""
        key = f"{self.key}: " if self.key else ""
        return f"{file}:{self.line}:{self.column}: {self.level}: {key}{self.message}"
