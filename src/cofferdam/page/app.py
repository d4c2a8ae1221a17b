"""The page itself: its sections as HTML, once as a whole and then, as server-sent events, each that has changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import jinja2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from cofferdam.page.model import Source, View

SECTIONS = ("instance", "containers", "denied", "policy")
MOST_STREAMS = 16
_DIRECTORY = Path(__file__).parent
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_DIRECTORY / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_LOOK_SECONDS = 0.4
# A comment now and then finds out that a browser has gone.
_PING_SECONDS = 15.0


def render_section(name: str, view: View) -> str:
    """One section as HTML; whatever is in the view is text there."""
    return _TEMPLATES.get_template(f"{name}.html.j2").render(view=view)


class Feed:
    """Looks at the source for ever and tells its readers what has changed.

    Attributes:
        sections: name -> HTML, as it is now.
        ended: whether the instance has, and nothing more will come.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._news = asyncio.Condition()
        self.view = source.view()
        self.sections: dict[str, str] = {}
        self.ended = False
        self._take(self.view)

    def _take(self, view: View) -> None:
        self.view = view
        self.sections = {name: render_section(name, view) for name in SECTIONS}
        self.ended = not view.alive

    async def run(self) -> None:
        """Work until the instance ends."""
        while not self.ended:
            view = await asyncio.to_thread(self._source.view)
            if view != self.view:
                self._take(view)
                async with self._news:
                    self._news.notify_all()
            await asyncio.sleep(_LOOK_SECONDS)

    async def events(self, leaving: Callable[[], bool]) -> AsyncIterator[str]:
        """Events for one reader: first every section, then those that change, and the end.

        Args:
            leaving: whether the server is about to end.
        """
        seen: dict[str, str] = {}
        quiet = 0.0
        while not leaving():
            for name, html in self.sections.items():
                if seen.get(name) != html:
                    yield _event("section", {"name": name, "html": html})
                    quiet = 0.0
            seen = self.sections
            if self.ended:
                yield _event("end", {"name": self.view.name})
                return
            try:
                async with asyncio.timeout(_LOOK_SECONDS), self._news:
                    # One that came since is found at the next turn.
                    await self._news.wait()
            except TimeoutError:
                quiet += _LOOK_SECONDS
            if quiet > _PING_SECONDS:
                quiet = 0.0
                yield ":\n\n"


def _event(kind: str, value: dict[str, str]) -> str:
    # JSON has no line ends, which would end an event.
    return f"event: {kind}\ndata: {json.dumps(value)}\n\n"


def page(feed: Feed, root: str, leaving: Callable[[], bool]) -> Starlette:
    """The application below the path `root`."""
    streams = 0

    async def whole(_: Request) -> Response:
        html = _TEMPLATES.get_template("page.html.j2").render(name=feed.view.name, sections=feed.sections)
        return HTMLResponse(html)

    async def events(_: Request) -> Response:
        if streams >= MOST_STREAMS:
            return PlainTextResponse("Too many windows show this page.\n", 503)
        return StreamingResponse(counted(), media_type="text/event-stream")

    async def counted() -> AsyncIterator[str]:
        nonlocal streams
        streams += 1
        try:
            async for each in feed.events(leaving):
                yield each
        finally:
            streams -= 1

    static = StaticFiles(directory=_DIRECTORY / "static")
    inside = [Route("/", whole), Route("/events", events), Mount("/static", static)]
    return Starlette(routes=[Mount(root, routes=inside)])
