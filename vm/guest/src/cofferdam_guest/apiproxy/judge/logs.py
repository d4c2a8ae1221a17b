"""Log drivers: those that write dockerd's own files, or nothing.

A driver runs in dockerd, as root of the VM: others dial sockets of the VM, read its files (certificates), or connect to whatever
address they are given. journald would let containers flood, and forge, the journal in which the VM records refusals.
The driver that the policy's own daemon options make the default passes with the options given there.
"""

from __future__ import annotations

from typing import Any

from cofferdam_guest.apiproxy.judge.refusals import policy
from cofferdam_guest.apiproxy.judge.request import Body
from cofferdam_guest.config.policy import Policy

DRIVERS = ("json-file", "local", "none")
# options of json-file and local, and of the buffer in front of any driver
OPTIONS = frozenset(("max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag")) | frozenset(
    ("mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress")
)


def check(config: Body, rules: Policy) -> None:
    """Judge LogConfig. Raises Denied."""
    default = rules.daemon_options.get("log-driver")
    given: Any = rules.daemon_options.get("log-opts") or {}
    driver = config.get("Type") or ""
    if driver and driver not in DRIVERS and driver != default:
        raise policy("log-driver", f"log driver {driver} is not allowed: use one of {', '.join(DRIVERS)}")
    for key, value in (config.get("Config") or {}).items():
        if key not in OPTIONS and (key not in given or given[key] != value):
            raise policy("log-driver", f"log option {key} is not allowed: known are {', '.join(sorted(OPTIONS))}")
