"""References to things in a registry: `HOST[:PORT]/NAME[:TAG][@sha256:DIGEST]`; no host is assumed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address

from cofferdam.errors import UsageError

_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    r"(?P<host>(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?)"
    rf"/(?P<repository>{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_LONGEST_REPOSITORY = 255


@dataclass(frozen=True)
class Reference:
    """A place in a registry; without tag and digest it names the repository."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return (
            f"{self.host}/{self.repository}" + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")
        )

    @property
    def base(self) -> str:
        """Address of the repository's part of the registry's API: http on this machine's loopback, https everywhere else."""
        return f"{'http' if is_loopback(self.host) else 'https'}://{self.host}/v2/{self.repository}"

    @property
    def wanted(self) -> str:
        """What names the manifest: the digest when there is one, else the tag."""
        return self.digest or self.tag

    def at(self, *, tag: str = "", digest: str = "") -> Reference:
        """The same repository, with these."""
        return replace(self, tag=tag, digest=digest)


def parse_reference(text: str) -> Reference:
    """Read a reference.

    Raises:
        UsageError: it is not one, or names no host.
    """
    match = _REFERENCE.fullmatch(text)
    host = match["host"] if match else ""
    if match is None or not ("." in host or ":" in host or host == "localhost") or len(match["repository"]) > _LONGEST_REPOSITORY:
        raise UsageError(
            f"`{text}` is no reference of a registry", hint="Write HOST[:PORT]/NAME:TAG or HOST[:PORT]/NAME@sha256:DIGEST."
        )
    return Reference(host, match["repository"], match["tag"] or "", match["digest"] or "")


def is_loopback(host: str) -> bool:
    """Whether a host, with its port or without, is this machine's loopback."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) and (host.count(":") == 1 or host.startswith("[")) else host
    if name == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def version_tag(version: str) -> str:
    """The tag of a version: tags know no `+` and no `~`."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", version)[:128]
