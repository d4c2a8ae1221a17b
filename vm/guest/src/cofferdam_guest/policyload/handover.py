"""What else the host hands over at boot: its network and further certificate authorities. None of it can loosen the policy.

What cannot be used is left out with a line for the journal: then the VM reaches less, never more.
"""

from __future__ import annotations

import os

from cofferdam_guest.config.network import LIMIT, Network, NetworkError, from_json

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_BUNDLE_LIMIT = 4 << 20


def read_network(path: str, lines: list[str]) -> Network:
    """What the host says of its network; nothing when it says nothing, or what cannot be used."""
    try:
        text = _text(path, LIMIT)
        return from_json(text) if text else Network()
    except (OSError, NetworkError, UnicodeDecodeError) as error:
        lines.append(f"{path} is left out: {error}")
        return Network()


def bundle(system: str, added: str, lines: list[str]) -> str:
    """The authorities of the image and those handed over, as one text.

    Args:
        system: the image's file.
        added: the host's; there may be none.
        lines: takes what is wrong.
    """
    parts = []
    for path in (system, added):
        try:
            text = _text(path, _BUNDLE_LIMIT)
            if text and (_BEGIN not in text or _END not in text):
                raise NetworkError("no certificate is in it")
            parts.append(text.strip())
        except (OSError, NetworkError, UnicodeDecodeError) as error:
            lines.append(f"{path} is left out: {error}")
    return "\n".join(part for part in parts if part) + "\n"


def _text(path: str, limit: int) -> str:
    """A file's text, empty when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    with open(fd, encoding="ascii") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise NetworkError("it is too large")
    return text
