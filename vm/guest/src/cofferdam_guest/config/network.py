"""What the host tells of the network at boot: proxies for the engine's own connections, and the largest packet.

It is no part of the policy, whose hash must not depend on where the machine runs: the policy's own values win.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from cofferdam_guest.config import positions
from cofferdam_guest.config.policy import PROXY_KINDS

PATH = "/run/cofferdam/policy/network.json"
SMALLEST, LARGEST = 576, 9000
LIMIT = 64 * 1024


class NetworkError(ValueError):
    """The text is not what a host says of its network; the message never holds a value of it, which may be a password."""


@dataclass(frozen=True)
class Network:
    """The desktop's network.

    Attributes:
        proxies: `http`, `https` and `no`; empty for none.
        mtu: of the VM's interface, for Docker's networks; none for the usual one.
    """

    proxies: dict[str, str] = field(default_factory=dict, repr=False)
    mtu: int | None = None

    def as_text(self) -> str:
        """The text that `from_json` reads."""
        return json.dumps(asdict(self), sort_keys=True)


def from_json(text: str | bytes) -> Network:
    """What a text says. Raises NetworkError."""
    try:
        document = positions.parse(text).plain()
    except positions.JsonError as error:
        raise NetworkError("it is not JSON") from error
    if not isinstance(document, dict) or set(document) - {"proxies", "mtu"}:
        raise NetworkError("it is not an object of proxies and mtu")
    return Network(_proxies(document.get("proxies", {})), _mtu(document.get("mtu")))


def load(path: str = PATH) -> Network:
    """What the policy loader has left; nothing when there is nothing, or it cannot be used."""
    try:
        with open(path, "rb") as file:
            return from_json(file.read(LIMIT + 1))
    except (OSError, NetworkError):
        return Network()


def _proxies(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or set(value) - set(PROXY_KINDS) or not all(isinstance(each, str) for each in value.values()):
        raise NetworkError("proxies are not texts of http, https and no")
    if not all(value[kind].startswith("http://") for kind in ("http", "https") if kind in value):
        raise NetworkError("a proxy is not http://HOST:PORT")
    return value


def _mtu(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not SMALLEST <= value <= LARGEST):
        raise NetworkError(f"mtu is not a number from {SMALLEST} to {LARGEST}")
    return value
