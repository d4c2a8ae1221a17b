"""Which hosts the policy's registries stand for. Pure.

An entry is `NAME`, `NAME:PORT`, `*.NAME` or `*.NAME:PORT`. Without a port it stands for 443 and, for plain http, 80; with one for
that port alone. A host that a registry sends its clients on to, for tokens or for blobs, must be listed as well, as Docker's
documentation says of its own registry access management. `docker.io` is the exception: a policy cannot be expected to follow
the hosts behind that name, so it stands for those that Docker's list of hosts for firewalls has for pull and push.
"""

from __future__ import annotations

from collections.abc import Iterable

from cofferdam_guest.apiproxy.egress.target import HTTP, HTTPS, Target
from cofferdam_guest.config.references import DEFAULT_HOST

DOCKER_HUB = (
    DEFAULT_HOST,
    *(f"{label}.{DEFAULT_HOST}" for label in ("index", "registry-1", "auth")),
    "production.cloudflare.docker.com",
    "production.cloudfront.docker.com",
    "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
)


class Hosts:
    """The hosts that may be reached.

    Args:
        registries: of the policy; none for all hosts.
    """

    def __init__(self, registries: Iterable[str] | None) -> None:
        self._all = registries is None
        entries = {entry.lower() for entry in registries or ()}
        if DEFAULT_HOST in entries:
            entries.update(DOCKER_HUB)
        self._exact = frozenset(entry for entry in entries if not entry.startswith("*."))
        self._below = tuple(entry[1:] for entry in entries if entry.startswith("*."))

    def allow(self, target: Target) -> bool:
        """Whether the target's host and port are allowed by their name."""
        return self._all or self.list_by_name(target) or any(self._is_below(target, domain) for domain in self._below)

    def list_by_name(self, target: Target) -> bool:
        """Whether an entry names just this host: an address that is listed so may be one that no name may lead to."""
        host = f"[{target.host}]" if ":" in target.host else target.host
        return f"{host}:{target.port}" in self._exact or (_is_usual(target) and host in self._exact)

    @staticmethod
    def _is_below(target: Target, domain: str) -> bool:
        name, _, port = domain.partition(":")
        return target.host.endswith(name) and (str(target.port) == port if port else _is_usual(target))


def _is_usual(target: Target) -> bool:
    return target.port == (HTTPS if target.is_tunnel else HTTP)
