"""Kernel parameters: namespaced ones only, in plain spelling. The same rule as the wrapper's, held together by a test."""

from __future__ import annotations

import re

from cofferdam_guest.apiproxy.judge.refusals import spec
from cofferdam_guest.config.policy import Policy

PREFIXES = ("net.", "fs.mqueue.", "kernel.msg", "kernel.shm")
NAMES = ("kernel.sem", "kernel.domainname")
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
# several numbers are set apart by blanks; + is how one value was smuggled into several (CVE-2022-0811)
_VALUE = re.compile(r"[ \t!-*,-~]*")


def check(settings: dict[str, str], _: Policy) -> None:
    """Judge `--sysctl`. Raises Denied."""
    for name, value in settings.items():
        if not is_namespaced(name):
            raise spec("sysctl", f"sysctl {name!r} is not namespaced: it would change the whole VM")
        if "\n" in value or "\0" in value:
            raise spec("sysctl", f"sysctl {name}: the value has more than one line")
        if not _VALUE.fullmatch(value):
            raise spec("sysctl", f"sysctl {name}: {value!r} is no value of a parameter")


def is_namespaced(name: str) -> bool:
    """Whether the parameter belongs to a namespace of the container."""
    return bool(_PLAIN.fullmatch(name)) and ".." not in name and (name in NAMES or name.startswith(PREFIXES))
