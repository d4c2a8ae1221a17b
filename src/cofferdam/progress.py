"""Progress of long work: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.status import Status

_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """Have every `Progress` that is made meanwhile show nothing, if that is wanted."""
    token = _QUIET.set(quiet)
    try:
        yield
    finally:
        _QUIET.reset(token)


class Progress:
    """Prints stages and steps to a console (standard error unless told otherwise)."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet or _QUIET.get()
        self._status: Status | None = None

    def line(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def cached(self, stage: str, detail: str = "") -> None:
        """Report a stage whose result was already there."""
        self.line(f"{stage:<14} cached  {detail}".rstrip())

    def step(self, text: str) -> None:
        """Say what the current stage is doing."""
        if self._status is not None:
            self._status.update(text)
        elif not self.console.is_terminal:
            self.line(f"  {text}")

    @contextmanager
    def stage(self, name: str, detail: str = "") -> Iterator[None]:
        """Frame one stage: says that it starts, how it ended and how long it took."""
        start = time.monotonic()
        outcome = "failed"
        text = f"{name:<14} working {detail}".rstrip()
        if self.console.is_terminal and not self.quiet and self._status is None:
            self._status = self.console.status(text)
            self._status.start()
        else:
            self.line(text)
        try:
            yield
            outcome = "done"
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            if self._status is not None:
                self._status.stop()
                self._status = None
            self.line(f"{name:<14} {outcome:<7} {time.monotonic() - start:.1f} s")
