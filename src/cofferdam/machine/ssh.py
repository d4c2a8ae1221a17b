"""ssh into debug images: the system's own client, the image's key, and a host key that is known beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cofferdam.errors import HostError
from cofferdam.machine.hostos import write_private

HOST_ALIAS = "cofferdam"
USER = "root"


def write_known_hosts(path: Path, host_key: Path) -> None:
    """Make the instance's known_hosts from the image's public host key (`TYPE BASE64 [comment]`)."""
    kind, key = host_key.read_text(encoding="ascii").split()[:2]
    write_private(path, f"{HOST_ALIAS} {kind} {key}\n")


def ssh_arguments(port: int, key: Path, known_hosts: Path, command: Sequence[str] = ()) -> list[str]:
    """The ssh command line; the user's own configuration and agent have no part in it.

    Raises:
        HostError: there is no ssh client.
    """
    program = shutil.which("ssh")
    if program is None:
        raise HostError("there is no ssh client on this machine", hint="On Debian: apt-get install openssh-client.")
    options = {
        "IdentityFile": f'"{key}"',
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "none",
        "HostKeyAlias": HOST_ALIAS,
        "StrictHostKeyChecking": "yes",
        "PasswordAuthentication": "no",
        "LogLevel": "ERROR",
        "ConnectTimeout": "30",
    }
    words = [program, "-F", "none", "-p", str(port)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, f"{USER}@127.0.0.1", *(["--", *command] if command else [])]
