"""What is needed of the distribution protocol: whether something is there, blobs and manifests both ways, and a login."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urljoin, urlsplit

import requests
from docker.auth import load_config
from docker.errors import DockerException

from cofferdam.errors import CofferdamError
from cofferdam.release.reference import Reference, is_loopback

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
USER, PASSWORD = "COFFERDAM_REGISTRY_USER", "COFFERDAM_REGISTRY_PASSWORD"
"""Variables with a login, for pipelines that have no docker program."""

_TIMEOUT = (30.0, 300.0)
"""Seconds until there is a connection, and for each answer or part of one."""

_LARGEST_MANIFEST = 1 << 22
_CHUNK = 1 << 20
_CHALLENGE = re.compile(r'([a-z_]+)="([^"]*)"')


class RegistryError(CofferdamError):
    """A registry that cannot be reached, refuses, or gives something else than was asked for."""

    exit_code: ClassVar[int] = 7


def digest_of(data: bytes) -> str:
    """How a registry names data."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Client:
    """One repository of a registry. The login is that of two variables, else of `docker login`; proxies are the environment's.

    Args:
        reference: the repository.
        push: whether the right to write is asked for.
    """

    def __init__(self, reference: Reference, *, push: bool = False) -> None:
        self.reference = reference
        self._scope = f"repository:{reference.repository}:pull{',push' if push else ''}"
        self._session = requests.Session()
        # Nothing on the loopback is behind a proxy; and ~/.netrc has no say anywhere.
        self._session.trust_env = not is_loopback(reference.host)
        self._session.auth = lambda request: request
        self._authorization = ""

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob.

        Raises:
            RegistryError: it cannot be asked.
        """
        return bool(self._ask("HEAD", f"/blobs/{digest}", missing=True).ok)

    def manifest_digest(self, wanted: str) -> str:
        """Digest of the manifest that a tag or digest names; empty when there is none.

        Raises:
            RegistryError: it cannot be asked.
        """
        found = self.manifest(wanted, missing=True)
        return digest_of(found) if found else ""

    def manifest(self, wanted: str, *, missing: bool = False) -> bytes:
        """A manifest's bytes, which are those of the digest when it was asked for by one.

        Args:
            wanted: tag or digest.
            missing: return nothing when there is none, instead of raising.

        Raises:
            RegistryError: there is none, it is too large, or it is another one.
        """
        answer = self._ask("GET", f"/manifests/{wanted}", headers={"Accept": MANIFEST_TYPE}, stream=True, missing=missing)
        if answer.status_code == requests.codes.not_found:
            return b""
        data = b"".join(self._parts(answer, _LARGEST_MANIFEST))
        if wanted.startswith("sha256:") and digest_of(data) != wanted:
            raise RegistryError(f"{self.reference.host} gave another manifest than {wanted}", hint="Do not use this registry.")
        return data

    def download(self, digest: str, size: int, target: Path) -> None:
        """Write a blob to a file; it is right in size and digest.

        Raises:
            RegistryError: it is not, or cannot be had.
        """
        answer, found, length = self._ask("GET", f"/blobs/{digest}", stream=True), hashlib.sha256(), 0
        with open(target, "wb") as sink:
            for part in self._parts(answer, size):
                found.update(part)
                length += sink.write(part)
        if length != size or digest != f"sha256:{found.hexdigest()}":
            raise RegistryError(f"{self.reference.host} gave something else than {digest}", hint="Do not use this registry.")

    def upload(self, source: Path, digest: str) -> bool:
        """Store a file as a blob.

        Returns:
            Whether it had to be sent; it may be there already.

        Raises:
            RegistryError: it cannot be stored.
        """
        if self.has_blob(digest):
            return False
        begun = self._ask("POST", "/blobs/uploads/", data=b"")
        place = urljoin(begun.url, begun.headers.get("Location", ""))
        with open(source, "rb") as body:
            self._ask(
                "PUT",
                place,
                params={"digest": digest},
                # requests sends what is empty without a length, which registries do not take
                data=body if source.stat().st_size else b"",
                headers={"Content-Type": "application/octet-stream"},
                again=lambda: body.seek(0),
            )
        return True

    def put_manifest(self, data: bytes, wanted: str) -> None:
        """Store a manifest under a tag or its digest; what it names must be there.

        Raises:
            RegistryError: it is refused.
        """
        self._ask("PUT", f"/manifests/{wanted}", data=data, headers={"Content-Type": MANIFEST_TYPE})

    def _ask(
        self,
        method: str,
        where: str,
        *,
        missing: bool = False,
        again: Callable[[], object] = lambda: None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> requests.Response:
        """One request, done again with a login when one is asked for."""
        url = where if "://" in where else self.reference.base + where
        answer = self._send(method, url, headers, options)
        # Whoever else was asked, by a redirect or for an upload, may not say where the login is sent.
        if answer.status_code == requests.codes.unauthorized and self._is_registry(answer.url):
            self._authorization = self._login(answer.headers.get("WWW-Authenticate", ""))
            again()
            answer = self._send(method, url, headers, options)
        if answer.ok or (missing and answer.status_code == requests.codes.not_found):
            return answer
        raise self._refused(method, answer)

    def _send(self, method: str, url: str, headers: dict[str, str] | None, options: dict[str, Any]) -> requests.Response:
        fields = dict(headers or {})
        # An upload may be led to another host, or out of https, which the login is not for.
        if self._authorization and self._is_registry(url):
            fields["Authorization"] = self._authorization
        try:
            return self._session.request(method, url, headers=fields, timeout=_TIMEOUT, **options)
        except requests.RequestException as error:
            raise self._unreachable(error) from error

    def _is_registry(self, url: str) -> bool:
        """Whether an address is of the registry itself, by the protocol that it is spoken to."""
        return urlsplit(url)[:2] == urlsplit(self.reference.base)[:2]

    def _login(self, challenge: str) -> str:
        """The header that answers a challenge: that of a login, or of a token that a login or nobody is given."""
        kind, _, rest = challenge.partition(" ")
        fields = dict(_CHALLENGE.findall(rest))
        user = self._stored_login()
        if kind.lower() == "basic" and user:
            return requests.Request("GET", self.reference.base, auth=user).prepare().headers["Authorization"]
        if kind.lower() != "bearer" or "realm" not in fields:
            return ""
        place = urlsplit(fields["realm"])
        if place.scheme != "https" and not is_loopback(place.netloc):
            raise RegistryError(f"{self.reference.host} sends logins to {place.netloc} unencrypted", hint="Do not use it.")
        asked = {"service": fields.get("service", ""), "scope": self._scope}
        try:
            answer = self._session.get(fields["realm"], params=asked, auth=user, timeout=_TIMEOUT, allow_redirects=False)
            given: dict[str, Any] = answer.json() if answer.ok else {}
        except requests.RequestException as error:
            raise self._unreachable(error) from error
        token = given.get("token") or given.get("access_token")
        return f"Bearer {token}" if token else ""

    def _stored_login(self) -> tuple[str, str] | None:
        given = os.environ.get(USER), os.environ.get(PASSWORD)
        if given[0] and given[1]:
            return given[0], given[1]
        try:
            found = load_config().resolve_authconfig(self.reference.host) or {}
        except DockerException as error:
            raise RegistryError(f"the stored login cannot be read: {error}", hint="Run `docker login` again.") from error
        # A file gives small letters, a credential store large ones.
        user, password = (found.get(key) or found.get(key.capitalize()) for key in ("username", "password"))
        return (user, password) if user and password else None

    def _parts(self, answer: requests.Response, limit: int) -> Any:
        """The body, in parts; it ends with an error behind the limit."""
        length = 0
        try:
            for part in answer.iter_content(_CHUNK):
                length += len(part)
                if length > limit:
                    raise RegistryError(f"{self.reference.host} sends more than the {limit} bytes that there are")
                yield part
        except requests.RequestException as error:
            raise self._unreachable(error) from error
        finally:
            answer.close()

    def _unreachable(self, error: Exception) -> RegistryError:
        cause = " ".join(str(error).split())[:300]
        hint = "Look at its address, the proxy variables, and REQUESTS_CA_BUNDLE if its certificate is a company's."
        return RegistryError(f"{self.reference.host} cannot be reached: {cause}", hint=hint)

    def _refused(self, method: str, answer: requests.Response) -> RegistryError:
        status = answer.status_code
        if status in (requests.codes.unauthorized, requests.codes.forbidden):
            message = f"{self.reference.host} does not let you {'read' if method in ('GET', 'HEAD') else 'write'}"
            return RegistryError(f"{message} {self.reference.repository}", hint=f"Run `docker login {self.reference.host}`.")
        if status == requests.codes.not_found:
            return RegistryError(f"{self.reference} is not there", hint="Look at the name and the tag.")
        said = "".join(each if each.isprintable() else "?" for each in answer.text[:300]) if method != "HEAD" else ""
        return RegistryError(f"{self.reference.host} answered {method} with {status}: {said}", hint="See the registry's log.")
