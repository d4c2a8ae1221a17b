"""The proxy's process: reads the policy, opens the doors, and says so when dockerd answers."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from cofferdam_guest.apiproxy import policyfile
from cofferdam_guest.apiproxy.audit import Audit
from cofferdam_guest.apiproxy.connection import Service
from cofferdam_guest.apiproxy.decisions import Decisions
from cofferdam_guest.apiproxy.doors import door, inherited, mutual_tls, plain
from cofferdam_guest.apiproxy.egress import proxy as egress
from cofferdam_guest.apiproxy.engine import SOCKET, Engine
from cofferdam_guest.apiproxy.facts import LiveFacts
from cofferdam_guest.apiproxy.http.transport import server_context
from cofferdam_guest.apiproxy.images.client import RegistryClient
from cofferdam_guest.apiproxy.images.socketimages import SocketImages
from cofferdam_guest.apiproxy.images.web import Web
from cofferdam_guest.apiproxy.plan import Rules
from cofferdam_guest.apiproxy.publish import DesktopPorts
from cofferdam_guest.config import engine, network
from cofferdam_guest.config.authorities import BUNDLE
from cofferdam_guest.config.policy import EGRESS, Policy

KEYS = "/run/cofferdam/tls"
_POLL = 0.05


def notify(state: str) -> None:
    """Tell systemd, if it listens (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)


def tls() -> ssl.SSLContext | None:
    """TLS by the host's credentials; None when the host gave none."""
    files = [f"{KEYS}/{name}" for name in ("ca", "cert", "key")]
    if not all(os.path.exists(file) and os.path.getsize(file) for file in files):
        return None
    return server_context(*files)


def authorities(path: str = BUNDLE) -> ssl.SSLContext:
    """TLS towards registries: the image's authorities and those handed over at boot."""
    try:
        return ssl.create_default_context(cafile=path)
    except OSError:  # ssl.SSLError is one; the loader has told why
        return ssl.create_default_context()


def insecure_registries(policy: Policy) -> list[str]:
    """Registries that dockerd speaks to without TLS, by the policy's own settings for it."""
    found = policy.daemon_options.get("insecure-registries")
    return [str(host) for host in found] if isinstance(found, list) else []


def shares() -> Sequence[str]:
    """Where directories of the desktop are mounted, as the policy loader wrote it; none when the engine has no settings."""
    try:
        return engine.load().share_roots
    except engine.SettingsError:
        return ()


async def serve(policy: Policy, audit: Audit) -> None:
    """Open the doors and serve until cancelled."""
    # The way out is no part of the policy where that says nothing of one.
    way = replace(policy, proxies=policy.proxies or network.load().proxies)
    web = Web(insecure_registries(policy), EGRESS if way.filters_egress else None, authorities())
    images = SocketImages(policy, Engine(SOCKET), RegistryClient(web))
    facts = LiveFacts(SOCKET, images, DesktopPorts(), shares())
    context = tls()

    def service(door: str) -> Service:
        return Service(Rules(policy, facts, door), SOCKET, audit)

    async with asyncio.TaskGroup() as group:
        await Decisions(images).listen()
        group.create_task(images.run())
        for listener in inherited():
            if listener.family == socket.AF_UNIX:
                group.create_task(door(listener, plain, service("container")).run())
            elif context is not None:
                group.create_task(door(listener, mutual_tls(context), service("host")).run())
            else:
                # without the host's credentials nobody may come in this way
                listener.close()
        if way.filters_egress:
            group.create_task(egress.serve(way, *EGRESS))
        while not await facts.ready():
            await asyncio.sleep(_POLL)
        notify("READY=1")


def main() -> None:
    """Run the proxy."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    policy, audit = policyfile.load(), Audit()
    text = f"policy {policy.label} (sha256 {policy.sha256}) from {' and '.join(policy.sources) or 'nowhere'}"
    audit.note(f"{text}; everything is refused: {policy.denied}" if policy.denied else text, COFFERDAM_POLICY=policy.sha256)
    try:
        asyncio.run(serve(policy, audit))
    except KeyboardInterrupt:
        sys.exit(130)
