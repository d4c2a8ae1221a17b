"""Questions to a registry: which manifest does a tag name, and what is in a manifest.

Source: the OCI distribution specification. A tag is asked for with HEAD, which Docker Hub does not count as a pull.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cofferdam_guest.apiproxy.images import challenge
from cofferdam_guest.apiproxy.images.manifests import DIGEST, TYPES
from cofferdam_guest.apiproxy.images.web import Answer, Unreachable, Web
from cofferdam_guest.config.references import DEFAULT_HOST, Reference

Logins = Mapping[str, tuple[str, str]]
"""User and password by registry host, as the host stands in a reference."""

_HUB = f"registry-1.{DEFAULT_HOST}"
_THREADS = 4
_TOKEN_LIMIT = 256
_GONE = (404, 410)
_T = TypeVar("_T")


class Gone(Exception):
    """The registry says that there is no such manifest."""


class RegistryClient:
    """Asks registries; every call runs in a thread of its own small pool.

    Args:
        web: how requests are made.
    """

    def __init__(self, web: Web) -> None:
        self._web = web
        self._pool = ThreadPoolExecutor(_THREADS, "registry")
        self._tokens: dict[tuple[str, str, str], tuple[str, float]] = {}

    async def digest(self, image: Reference, reference: str, logins: Logins | None = None) -> str:
        """The digest of the manifest that a tag or a digest names now, in the image's repository.

        Raises:
            Gone: there is none.
            Unreachable: no usable answer.
        """
        return await self._in_thread(lambda: self._digest(image, reference, logins or {}))

    async def manifest(self, image: Reference, digest: str, logins: Logins | None = None) -> bytes:
        """The manifest of that digest, its bytes compared with the digest. Raises Gone, Unreachable."""
        return await self._in_thread(lambda: self._manifest(image, digest, logins or {}))

    def close(self) -> None:
        """End the threads that have nothing to do."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _digest(self, image: Reference, reference: str, logins: Logins) -> str:
        answer = self._ask("HEAD", image, reference, logins)
        named = answer.fields.get("Docker-Content-Digest", "")
        if answer.status == 200 and DIGEST.fullmatch(named):
            return named
        if answer.status not in (200, 405):
            raise Unreachable(f"{image.host} answered with status {answer.status}")
        # The field is a "should" of the specification, and some registries know no HEAD.
        return _sha256(self._body(image, reference, logins))

    def _manifest(self, image: Reference, digest: str, logins: Logins) -> bytes:
        body = self._body(image, digest, logins)
        if _sha256(body) != digest:
            raise Unreachable(f"{image.host} sent other bytes than those of {digest}")
        return body

    def _body(self, image: Reference, reference: str, logins: Logins) -> bytes:
        answer = self._ask("GET", image, reference, logins)
        if answer.status != 200:
            raise Unreachable(f"{image.host} answered with status {answer.status}")
        return answer.body

    def _ask(self, method: str, image: Reference, reference: str, logins: Logins) -> Answer:
        url = f"{self._web.base(_address(image.host))}/v2/{image.repository}/manifests/{reference}"
        fields = {"Accept": ", ".join(TYPES)}
        key = (image.host, image.repository, logins[image.host][0] if image.host in logins else "")
        text, until = self._tokens.get(key, ("", 0.0))
        if text and time.monotonic() < until:
            fields["Authorization"] = f"Bearer {text}"
        answer = self._web.request(method, url, fields)
        if answer.status == 401:
            fields["Authorization"] = self._login(answer, image, key, logins.get(image.host))
            answer = self._web.request(method, url, fields)
        if answer.status in _GONE:
            raise Gone(f"{image.name} has no {reference}")
        if answer.status in (401, 403):
            raise Unreachable(f"{image.host} wants a login for {image.repository}")
        return answer

    def _login(self, answer: Answer, image: Reference, key: tuple[str, str, str], login: tuple[str, str] | None) -> str:
        demand = next((each for each in map(challenge.parse, answer.fields.get_all("WWW-Authenticate", [])) if each), None)
        if demand is None or (demand.scheme == "basic" and login is None):
            raise Unreachable(f"{image.host} wants a login for {image.repository}")
        if demand.scheme == "basic":
            return _basic(login)
        url = challenge.token_url(demand, image.repository)
        if url is None:
            raise Unreachable(f"{image.host} names no token server")
        given = self._web.request("GET", url, {"Authorization": _basic(login)} if login else {})
        found = challenge.token(given.body) if given.status == 200 else None
        if found is None:
            raise Unreachable(f"the token server of {image.host} answered with status {given.status} and no token")
        if len(self._tokens) >= _TOKEN_LIMIT:
            self._tokens.clear()
        self._tokens[key] = (found[0], time.monotonic() + found[1])
        return f"Bearer {found[0]}"


def _address(host: str) -> str:
    return _HUB if host == DEFAULT_HOST else host


def _basic(login: tuple[str, str] | None) -> str:
    return "Basic " + base64.b64encode(":".join(login or ()).encode()).decode("ascii")


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
