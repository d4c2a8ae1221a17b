"""Takes secrets out of what leaves the machine: keys, tokens, passwords, and the values of variables that hold such.

The text may come from the guest, which is not trusted: every pattern takes time in proportion to the text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GONE = "[removed]"
_NAME = (
    r"pass(?:word|wd|phrase)?|pwd|secret|(?:identity|access|refresh|id)?[_-]?token|credentials?|(?:api|access|private|secret)[_-]?key"
    r"|auth|x-registry-\w{1,20}|(?:proxy-)?authorization|cookie"
)
_SHORTEST_VALUE = 6
_FLAGS = re.IGNORECASE | re.MULTILINE

# What is a secret wherever it stands; the first group, if there is one, is kept.
_PATTERNS = (
    # A block whose end, or whose beginning, was cut off is one as well.
    re.compile(r"-----BEGIN [A-Z0-9 ]+-----(?:(?!-----BEGIN ).)*?(?:-----END [A-Z0-9 ]+-----|(?=-----BEGIN )|\Z)", re.DOTALL),
    re.compile(r"^[A-Za-z0-9+/=]*\n-----END [A-Z0-9 ]+-----", re.MULTILINE),
    # A line of a key's body, whatever a log has put in front of it; a hash is none.
    re.compile(r"(?<![\w+/:])(?![0-9a-f]+$)[A-Za-z0-9+/]{60,}={0,2}$", re.MULTILINE),
    re.compile(r"\b([a-z][a-z0-9+.-]{0,20}://)[^\s\"'/]+@", _FLAGS),
    re.compile(r"((?:x-registry-\w{1,20}|authorization|cookie)[\"']?[ \t]*[:=])[^\n]+", _FLAGS),
    re.compile(rf"((?:{_NAME})s?[\"']?[ \t]*[:=][ \t]*)(?:\"[^\"\n]*\"|'[^'\n]*'|\S+)", _FLAGS),
    re.compile(rf"(--[\w-]{{0,20}}(?:{_NAME})[ \t]+)\S+", _FLAGS),
    re.compile(r"\b((?:bearer|basic)[ \t]+)[A-Za-z0-9._~+/=-]{8,}", _FLAGS),
    re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*)*"),
    re.compile(r"\b(?:dckr_pat_|gh[pousr]_|github_pat_|glpat-|xox[abp]-|AKIA)[\w-]{8,}"),
)
_SECRET_KEY = re.compile(rf"(?:{_NAME})s?$", re.IGNORECASE)
# Not the shell's own PWD, OLDPWD and no_proxy, whose values are ordinary words of a report.
_SECRET_VARIABLE = re.compile(rf"^(?!(?:OLD)?PWD$|no_proxy$).*(?:{_NAME}|key|proxy)", re.IGNORECASE)


def scrub(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without secrets; the user's home directory is written `~`.

    Args:
        text: a log or any other text.
        environment: variables whose values are removed where the name says that they are secret; this process's when not given.
    """
    variables = os.environ if environment is None else environment
    values = {value for name, value in variables.items() if len(value) >= _SHORTEST_VALUE and _SECRET_VARIABLE.match(name)}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, GONE)
    for pattern in _PATTERNS:
        text = pattern.sub(lambda match: (match[1] if match.re.groups else "") + GONE, text)
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text) if len(home) > 1 else text


def scrub_json(value: Any) -> Any:
    """The same for a JSON value: every text in it is scrubbed, and whatever has a name that says that it is secret is removed."""
    if isinstance(value, dict):
        return {key: GONE if item and _SECRET_KEY.search(key) else scrub_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub_json(item) for item in value]
    return scrub(value) if isinstance(value, str) else value
