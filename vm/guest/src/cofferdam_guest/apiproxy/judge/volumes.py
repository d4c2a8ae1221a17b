"""Volumes: the local driver, and of what it can mount only a tmpfs.

dockerd hands `type`, `device` and `o` to mount(2) as root of the VM. A bind or a raw file system would be a file of the VM under
another name. Network file systems are refused too: this VM's kernel has none, and the wrapper could not map their owners.
Names and meanings: `volume/local/local_unix.go` of the engine, tmpfs(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cofferdam_guest.apiproxy.judge.refusals import malformed, policy

DRIVERS = ("", "local")
FLAGS = frozenset(
    (
        "ro",
        "rw",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "noatime",
        "relatime",
        "strictatime",
        "nodiratime",
        "diratime",
    )
) | frozenset(("async", "defaults"))
_NUMBER = re.compile(r"[0-9]+")
_SIZE = re.compile(r"[0-9]+[kKmMgGtT%]?")
TMPFS_VALUES = {
    "size": _SIZE,
    "nr_blocks": _SIZE,
    "nr_inodes": _SIZE,
    "mode": re.compile(r"[0-7]{1,5}"),
    "uid": _NUMBER,
    "gid": _NUMBER,
}
# a volume is mounted in the VM itself: nothing there may act as a device or raise privileges
_NOT_IN_THE_VM = frozenset(("dev", "suid"))
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ONLY = "a volume is a directory of the engine's own, or a tmpfs (type=tmpfs, device=tmpfs, o=size=…,mode=…,uid=…,gid=…)"


def check(driver: str, options: Mapping[str, str]) -> None:
    """Judge a volume's driver and its options. Raises Denied."""
    if driver not in DRIVERS:
        raise policy(
            "volume-driver", f"volume driver {driver} is not allowed: only local is; others run outside of every container"
        )
    rest = {key: value for key, value in options.items() if key != "size"}
    if "size" in options and not _SIZE.fullmatch(options["size"]):
        raise _refused(f"size={options['size']}")
    if not rest:
        return
    for key, value in rest.items():
        if key not in ("type", "device", "o"):
            raise _refused(f"{key}={value}")
    if rest.get("type") != "tmpfs":
        raise _refused(f"type={rest.get('type', '')}" + (f" device={rest['device']}" if "device" in rest else ""))
    # with type tmpfs the device is but a label
    if rest.get("device") not in ("tmpfs", "none"):
        raise _refused(f"type=tmpfs device={rest.get('device', '')}")
    _mount_options(rest.get("o", ""))


def check_name(name: str) -> None:
    """Refuse what is no name of a volume, before anybody looks it up. Raises Denied."""
    if not _NAME.fullmatch(name):
        hint = "letters, digits, _ . and -, two at least; a path of the desktop or the VM must begin with /"
        raise malformed("volume-name", f'"{name}" is not a name of a volume: {hint}')


def _mount_options(text: str) -> None:
    """Every option must be known: one word, such as bind, makes a tmpfs something else."""
    for option in text.split(",") if text else ():
        key, equals, value = option.partition("=")
        if equals:
            if key not in TMPFS_VALUES or not TMPFS_VALUES[key].fullmatch(value):
                raise _refused(f"o={option}")
        elif option not in FLAGS - _NOT_IN_THE_VM:
            raise _refused(f"o={option}")


def _refused(what: str) -> Exception:
    return policy("volume-options", f"volume option {what} is not allowed: {_ONLY}")
