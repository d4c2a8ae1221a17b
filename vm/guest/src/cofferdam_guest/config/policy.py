"""The effective policy: what the loader writes at boot and the API proxy, the engine and dockerd then follow.

Its canonical JSON has sorted keys, no spaces and ASCII only, so that one policy has one SHA-256, on the host and in the VM.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from typing import Any

from cofferdam_guest.config import positions

FORMAT = 1
_TEXTS = ("denied", "command_mode")
_FLAGS = ("allow_derived", "block_load")
_LISTS = (
    *("sources", "socket_images", "commands", "mounts_allow_read_only", "mounts_allow_read_write", "mounts_deny"),
    "shares_default",
)
_OPEN_LISTS = ("registries", "shares")
"""Lists that need not be there: then they restrict nothing."""

EGRESS = ("127.0.0.1", 3128)
"""Where the registry filter listens in the VM, for dockerd and the API proxy themselves."""

COMMAND_MODES = ("deny", "allow")
PROXY_KINDS = ("http", "https", "no")


class PolicyError(ValueError):
    """The text is not an effective policy; the message names the key."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What holds in the VM; the defaults are those of Docker Desktop with isolation on and nothing else said.

    Attributes:
        sha256: hash of the policy's canonical JSON.
        denied: why everything is refused; empty when it is not.
        sources: what it was made from: `image`, `boot`.
        socket_images: images that may mount the Docker socket, normalised, with a tag, `:*` or `@sha256:...`; or `*`.
        allow_derived: whether local images built from these may as well.
        command_mode: `deny` (all but `commands`) or `allow` (only `commands`) on a mounted socket.
        commands: names and group wildcards, as written.
        block_load: whether `docker load` is refused.
        registries: hosts that may be reached for images, `*.` in front for all below a domain; none for all.
        mounts_allow_read_only: further paths of the VM that containers may mount, read-only.
        mounts_allow_read_write: the same, writable.
        mounts_deny: paths refused even where a rule allows what is around them.
        shares: directories of the desktop that may be shared with the VM, and what is below them; none for all.
        shares_default: those of them that are shared when nobody chooses.
        daemon_options: of daemon.json, what isolation leaves of it.
        proxies: `http`, `https` and `no` of the engine's own connections; empty for none.
    """

    sha256: str = field(default="", compare=False)
    denied: str = ""
    sources: tuple[str, ...] = ()
    socket_images: tuple[str, ...] = ()
    allow_derived: bool = False
    command_mode: str = "deny"
    commands: tuple[str, ...] = ()
    block_load: bool = False
    registries: tuple[str, ...] | None = None
    mounts_allow_read_only: tuple[str, ...] = ()
    mounts_allow_read_write: tuple[str, ...] = ()
    mounts_deny: tuple[str, ...] = ()
    shares: tuple[str, ...] | None = None
    shares_default: tuple[str, ...] = ()
    daemon_options: dict[str, object] = field(default_factory=dict)
    proxies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", sha256(canonical_json(self).encode("ascii")).hexdigest())

    @property
    def filters_egress(self) -> bool:
        """Whether the engine's own connections go through the registry filter: it knows registries and proxies."""
        return self.registries is not None or bool(self.proxies)

    @property
    def label(self) -> str:
        """What stands for this policy in `docker info`."""
        return "deny-all" if self.denied else self.sha256[:12]


def deny_all(reason: str) -> Policy:
    """The policy under which nothing is possible.

    Args:
        reason: what was wrong with the policy, and what to do.
    """
    return Policy(denied=reason or "no reason given", command_mode="allow", block_load=True, registries=(), shares=())


def canonical_json(policy: Policy) -> str:
    """The policy as the text that is hashed and stored."""
    values = {key: value for key, value in asdict(policy).items() if key != "sha256"}
    return json.dumps({"format": FORMAT, **values}, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def from_json(text: str | bytes) -> Policy:
    """The policy in a text that `canonical_json` made. Raises PolicyError for anything else: a wrong policy is no policy."""
    try:
        document = positions.parse(text).plain()
    except positions.JsonError as error:
        raise PolicyError(str(error)) from error
    if not isinstance(document, dict):
        raise PolicyError("the policy is not an object")
    wanted = {"format", *(each.name for each in fields(Policy))} - {"sha256"}
    if missing := sorted(wanted - set(document)):
        raise PolicyError(f"the policy lacks {missing[0]}")
    if unknown := sorted(set(document) - wanted):
        raise PolicyError(f"the policy has the unknown key {unknown[0]}")
    if document["format"] != FORMAT or isinstance(document["format"], bool):
        raise PolicyError(f"format {document['format']!r} is not {FORMAT}")
    del document["format"]
    return Policy(**{key: _checked(key, value) for key, value in document.items()})


def _checked(key: str, value: Any) -> Any:
    if key in _TEXTS:
        good = isinstance(value, str) and (key != "command_mode" or value in COMMAND_MODES)
    elif key in _FLAGS:
        good = isinstance(value, bool)
    elif key in (*_LISTS, *_OPEN_LISTS):
        good = (key in _OPEN_LISTS and value is None) or _texts(value)
        return tuple(value) if good and value is not None else _good(key, value, good)
    else:
        good = isinstance(value, dict) and (key != "proxies" or (set(value) <= set(PROXY_KINDS) and _texts(list(value.values()))))
    return _good(key, value, good)


def _good(key: str, value: Any, good: bool) -> Any:
    if not good:
        raise PolicyError(f"the policy's {key} is not what it must be")
    return value


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
