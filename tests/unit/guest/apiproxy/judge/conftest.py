"""The engine's objects in memory, and a way to ask for verdicts."""

from __future__ import annotations

import asyncio
import os

import pytest

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.judge.request import Request
from cofferdam_guest.apiproxy.judge.verdict import judge
from cofferdam_guest.config.policy import Policy


class World:
    """Facts, with the links that the VM has."""

    def __init__(self) -> None:
        self.volumes, self.containers, self.allowed, self.missing = {}, {}, set(), set()
        self.shares = ()
        self.asked, self.refusal, self.discarded = [], "", []
        self.links = {"/var/run": "/run", "/proc/1/root": "/"}

    async def volume(self, name):
        return self.volumes.get(name)

    async def container(self, name):
        return self.containers.get(name)

    async def image(self, name):
        return None if name in self.missing else {"Id": name}

    async def socket_mount_allowed(self, image):
        return image in self.allowed

    async def desktop_port_refusal(self, container, ports):
        self.asked.append((container, list(ports)))
        return self.refusal

    async def discard(self, container):
        self.discarded.append(container)

    async def resolve(self, path):
        for link, to in self.links.items():
            if path == link or path.startswith(link + "/"):
                return os.path.normpath("/" + (to + path[len(link) :]).lstrip("/"))
        return path


class Asker:
    """Asks for verdicts; `facts` and `policy` can be set."""

    def __init__(self) -> None:
        self.facts, self.policy = World(), Policy()

    def __call__(self, route, body=None, /, **query):
        params = {"name": query.pop("named", "box")}
        request = Request(route_id=route, policy=self.policy, facts=self.facts, params=params, query=query, body=body)
        return asyncio.run(judge(request))

    def create(self, host=None, **config):
        """The HostConfig that dockerd gets."""
        return self("ContainerCreate", {"Image": "alpine", **config, "HostConfig": host or {}}).body["HostConfig"]

    def refused(self, route, body=None, /, **query) -> Denied:
        with pytest.raises(Denied) as caught:
            self(route, body, **query)
        return caught.value

    def refused_create(self, host=None, **config) -> Denied:
        return self.refused("ContainerCreate", {"Image": "alpine", **config, "HostConfig": host or {}})


@pytest.fixture
def ask() -> Asker:
    return Asker()


@pytest.fixture(scope="session")
def new_ask() -> type[Asker]:
    """For properties, which ask many times."""
    return Asker
