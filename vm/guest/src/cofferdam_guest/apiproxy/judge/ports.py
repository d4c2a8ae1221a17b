"""Published ports: those of the VM's own doors stay the VM's."""

from __future__ import annotations

from cofferdam_guest.apiproxy.judge.refusals import malformed, policy
from cofferdam_guest.apiproxy.judge.request import Body
from cofferdam_guest.config.policy import Policy

# ssh of the debug image, the Docker API without and with TLS; the same as in the packet filter
DOORS = (22, 2375, 2376)


def check(bindings: dict[str, list[Body] | None], _: Policy) -> None:
    """Judge PortBindings, for every address. Raises Denied."""
    for places in bindings.values():
        for each in places or []:
            text = each.get("HostPort") or ""
            if text:
                first, last = _range(text)
                for door in DOORS:
                    if first <= door <= last:
                        raise policy("port", f"port {door} of the VM can't be published: it is a door of the VM's own")


def _range(text: str) -> tuple[int, int]:
    """`8080` or `8000-8010`; Docker's parser takes nothing else."""
    first, dash, last = text.partition("-")
    numbers = [first, last if dash else first]
    if not all(each.isascii() and each.isdecimal() for each in numbers):
        raise malformed("port", f"{text!r} is not a port, nor a range of ports")
    return int(numbers[0]), int(numbers[1])
