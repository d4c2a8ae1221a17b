"""`inv page`: the page of a running instance on a port of the desktop's loopback, until the instance or the user ends it."""

from __future__ import annotations

import asyncio
import socket
import webbrowser

import uvicorn

from cofferdam.errors import InstanceError
from cofferdam.machine.channels import LOOPBACK
from cofferdam.machine.hostos import WINDOWS
from cofferdam.machine.instance import Instance
from cofferdam.page.app import Feed, page
from cofferdam.page.guard import Guard, Keys
from cofferdam.page.model import Source
from cofferdam.page.source import InstanceSource
from cofferdam.verbs import show

_MOST_CONNECTIONS = 64
_GRACE_SECONDS = 2


def listener(port: int) -> socket.socket:
    """A listening socket on the loopback; port 0 takes a free one.

    Raises:
        InstanceError: the port cannot be had.
    """
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if not WINDOWS:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((LOOPBACK, port))
        server.listen()
    except OSError as error:
        server.close()
        message = f"port {port} of this machine cannot be had: {error.strerror}"
        raise InstanceError(message, hint="Give --port another, or leave it out for a free one.") from error
    return server


class PageServer:
    """One page, on a socket that listens already.

    Attributes:
        url: the link, which works once.
    """

    def __init__(self, source: Source, server: socket.socket) -> None:
        self._source, self._server = source, server
        self.keys = Keys()
        self.host = f"{LOOPBACK}:{server.getsockname()[1]}"
        self.url = f"http://{self.host}/{self.keys.path}/?token={self.keys.token}"
        self._leaving = False

    def run(self) -> bool:
        """Serve until the instance ends or `stop` is called; whether the instance has ended."""
        return asyncio.run(self._run())

    def stop(self) -> None:
        """End soon; for another thread."""
        self._leaving = True

    async def _run(self) -> bool:
        feed = Feed(self._source)
        guarded = Guard(page(feed, f"/{self.keys.path}", lambda: self._leaving or web.should_exit), self.keys, self.host)
        # No log: a line of it would hold the path, or the token.
        config = uvicorn.Config(
            guarded,
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            lifespan="off",
            http="h11",
            ws="none",
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        web = uvicorn.Server(config)
        serving = asyncio.create_task(web.serve(sockets=[self._server]))
        looking = asyncio.create_task(feed.run())
        while not (serving.done() or looking.done() or self._leaving):
            await asyncio.wait({serving, looking}, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        web.should_exit = True
        await serving
        if looking.done():
            looking.result()
        looking.cancel()
        return feed.ended


def serve(name: str, port: int, *, open_it: bool) -> None:
    """Show the page of an instance, and its link; ends with the instance, or by an interrupt.

    Raises:
        InstanceError: the instance does not run, or the port cannot be had.
    """
    instance = Instance(name)
    source = InstanceSource(instance)
    with listener(port) as server:
        made = PageServer(source, server)
        show([f"page           {made.url}", "next           follow the link, which works once; Ctrl-C ends the page"])
        if open_it and not webbrowser.open(made.url):
            show("note           no browser could be started; open the link by hand")
        try:
            ended = made.run()
        except KeyboardInterrupt:
            ended = False
    show(f"instance `{name}` has ended, and the page with it" if ended else "the page has ended")
