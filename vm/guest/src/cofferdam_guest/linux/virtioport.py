"""Virtio ports by their names; there is no udev that would link them."""

import os

PORTS = "/sys/class/virtio-ports"


def find_port(name: str, ports: str = PORTS, devices: str = "/dev") -> str | None:
    """Path of the virtio port with that name; None while the kernel has not announced it."""
    try:
        entries = os.listdir(ports)
    except FileNotFoundError:
        return None
    for entry in entries:
        try:
            with open(f"{ports}/{entry}/name") as source:
                if source.read().strip() == name:
                    return f"{devices}/{entry}"
        except FileNotFoundError:
            continue
    return None
