"""A registry's demand for a login: the WWW-Authenticate field, and the token's address that follows from it.

Source: RFC 9110 section 11.6.1 and the token authentication of the distribution project.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from cofferdam_guest.config import positions

_PAIR = re.compile(r'\s*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_TOKEN = re.compile(r"[!-~]{1,16384}")
_SHORTEST, _LONGEST = 60.0, 3600.0


class Challenge(NamedTuple):
    """A demand: `scheme` is `bearer` or `basic`, in small letters; `values` are its parameters."""

    scheme: str
    values: dict[str, str]


def parse(field: str) -> Challenge | None:
    """The challenge in a field's value; None when it is none that is known here."""
    scheme, _, rest = field.strip().partition(" ")
    if scheme.lower() not in ("bearer", "basic"):
        return None
    values: dict[str, str] = {}
    at = 0
    while at < len(rest):
        match = _PAIR.match(rest, at)
        if match is None:
            break
        text = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        values.setdefault(match[1].lower(), text)
        at = match.end()
    return Challenge(scheme.lower(), values)


def token_url(challenge: Challenge, repository: str) -> str | None:
    """Where to ask for a token that may read `repository`, whatever scope the registry named; None without a usable realm."""
    realm = urlsplit(challenge.values.get("realm", ""))
    if realm.scheme not in ("http", "https") or not realm.hostname:
        return None
    query = [pair for pair in parse_qsl(realm.query) if pair[0] not in ("service", "scope")]
    if service := challenge.values.get("service"):
        query.append(("service", service))
    query.append(("scope", f"repository:{repository}:pull"))
    return urlunsplit((realm.scheme, realm.netloc, realm.path, urlencode(query), ""))


def token(body: bytes) -> tuple[str, float] | None:
    """The token in a token server's answer, and for how many seconds to keep it; None when there is none."""
    try:
        document = positions.parse(body).plain()
    except positions.JsonError:
        return None
    if not isinstance(document, dict):
        return None
    text = document.get("token") or document.get("access_token")
    seconds = document.get("expires_in")
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        return None
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    # Half of its life: the registry's clock may be ahead of ours. Without a word from the server it is a minute.
    return text, min(max(float(seconds) / 2 if known and seconds is not None else _SHORTEST / 2, 1.0), _LONGEST)
