"""Devices: the nodes that every container has, and fuse and tun. The VM's hardware is nobody's.

Rules of the device control group (`DeviceCgroupRules`) pass: the wrapper puts its own in their place.
"""

from __future__ import annotations

from cofferdam_guest.apiproxy.judge.refusals import spec
from cofferdam_guest.apiproxy.judge.request import Body
from cofferdam_guest.config.policy import Policy

NODES = frozenset(("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/net/tun", "/dev/fuse"))


def check_devices(devices: list[Body], _: Policy) -> None:
    """Judge `--device`, by the path in the VM. Raises Denied."""
    for each in devices:
        path = each.get("PathOnHost") or ""
        if path not in NODES:
            raise spec("device", f"device {path} of the VM can't be used in a container; only fuse and tun can")


def check_requests(requests: list[Body], _: Policy) -> None:
    """Judge `--gpus` and names of the Container Device Interface. Raises Denied."""
    for each in requests:
        what = each.get("Driver") or " ".join(name for group in each.get("Capabilities") or [] for name in group or [])
        raise spec("device", f"device request {what or 'of any driver'} can't be met: the VM has no devices for containers")
