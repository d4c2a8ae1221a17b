"""Image references, normalised as Docker does: `docker:cli` is `docker.io/library/docker:cli`.

The grammar is that of the OCI distribution project, which dockerd uses: a host is told from a path by its dot, colon or
capital letter, or by being `localhost`; names are in lower case; `docker.io` has a `library/` for names of one part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"
ANY_TAG = "*"
_OLD_DEFAULT_HOST = f"index.{DEFAULT_HOST}"
_LONGEST_NAME = 255
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


class BadReference(ValueError):
    """The text does not name an image; the message says why."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised image reference.

    Attributes:
        host: registry, with its port if it has one; `docker.io` when the text names none.
        repository: path on it; `library/docker` for `docker`.
        tag: tag, `*` for any tag, or none when there is a digest.
        digest: `sha256:...`, or none.
    """

    host: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def name(self) -> str:
        """Without tag and digest: `docker.io/library/docker`, as denials print it."""
        return f"{self.host}/{self.repository}"

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str, *, wildcard: bool = True) -> Reference:
    """The reference that a text stands for.

    Args:
        text: `NAME`, `NAME:TAG`, `NAME:*` or `NAME@DIGEST`, the name with or without a registry host.
        wildcard: whether `:*` is allowed; it is in a policy's list, not in an image that a container names.

    Raises:
        BadReference: it is none of these. A tag besides a digest is dropped, as Docker ignores it.
    """
    rest, at, digest = text.partition("@")
    if at:
        _check_digest(digest)
    name, tag = _split_tag(rest)
    host, repository = _split_host(name)
    if "*" in name:
        raise BadReference(f'"{text}": `*` stands for any tag only (`NAME:*`); repositories have no wildcard: name each one')
    _check_name(text, host, repository)
    if tag == ANY_TAG and (at or not wildcard):
        raise BadReference(f'"{text}": `:*` cannot stand {"beside a digest" if at else "here"}')
    if tag is not None and tag != ANY_TAG and not _TAG.fullmatch(tag):
        raise BadReference(f'"{text}": `{tag}` is not a tag: letters, digits, `_`, `.` and `-`, at most 128 of them')
    return Reference(host, repository, None if at else tag or DEFAULT_TAG, digest or None)


def host_of(text: str) -> str:
    """The registry host in a text such as `registry.example.com:5000`, in lower case. Raises BadReference."""
    host = text.lower()
    if not HOST.fullmatch(host):
        raise BadReference(f'"{text}" is not a registry host: write NAME or NAME:PORT, without `https://` and without a path')
    return DEFAULT_HOST if host == _OLD_DEFAULT_HOST else host


def _split_tag(text: str) -> tuple[str, str | None]:
    name, colon, tag = text.rpartition(":")
    # A colon before a slash belongs to the host's port.
    return (name, tag) if colon and "/" not in tag else (text, None)


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    has_host = slash and (first == "localhost" or "." in first or ":" in first or first != first.lower())
    host, repository = (first, rest) if has_host else (DEFAULT_HOST, name)
    if host == _OLD_DEFAULT_HOST:
        host = DEFAULT_HOST
    if host == DEFAULT_HOST and "/" not in repository:
        repository = f"library/{repository}"
    return host, repository


def _check_name(text: str, host: str, repository: str) -> None:
    if not text or text != text.strip() or repository in ("library/", ""):
        raise BadReference(f'"{text}" names no image')
    if not HOST.fullmatch(host):
        raise BadReference(f'"{text}": `{host}` is not a registry host')
    if repository != repository.lower():
        raise BadReference(f'"{text}": repository names are in lower case')
    if not _REPOSITORY.fullmatch(repository):
        raise BadReference(f'"{text}": `{repository.removeprefix("library/")}` is not a repository name')
    if _IMAGE_ID.fullmatch(repository.removeprefix("library/")) and host == DEFAULT_HOST:
        raise BadReference(f'"{text}" is an image ID, which names no repository; write NAME@sha256:...')
    if len(host) + 1 + len(repository) > _LONGEST_NAME:
        raise BadReference(f'"{text}": a name has at most {_LONGEST_NAME} characters')


def _check_digest(digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise BadReference(f'"{digest}" is not a digest: sha256: and 64 digits 0-9 a-f')
