"""Keys of QEMU's channels where they are loopback ports: QEMU talks to who has a key of this boot, and to nobody else.

Without them every program of this machine could reach QEMU's monitor, and every container: QEMU's network shows the guest
the host's loopback. They are made anew at each boot and are not those of the Docker API, whose server's half is in the guest.
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from cofferdam.machine.credentials import new_material
from cofferdam.machine.hostos import private_directory, write_private

_AUTHORITY = "ca-cert.pem"
_SERVER = ("server-cert.pem", "server-key.pem")
_CLIENT = ("client-cert.pem", "client-key.pem")
"""Names that QEMU gives such files (docs/system/tls)."""


def make_keys(directory: Path, name: str, now: datetime.datetime | None = None) -> Path:
    """Make the keys of one boot of instance `name`, in the place of those of an earlier one; the directory."""
    made = new_material(f"{name} channels", now or datetime.datetime.now(datetime.UTC))
    private_directory(directory)
    write_private(directory / _AUTHORITY, made.authority)
    for names, pair in ((_SERVER, made.server), (_CLIENT, made.client)):
        for file, content in zip(names, pair, strict=True):
            write_private(directory / file, content)
    return directory


def client_context(directory: Path) -> ssl.SSLContext:
    """A client that shows its key and trusts nobody but this boot's QEMU.

    Raises:
        OSError: the keys are not there, or unusable.
    """
    context = ssl.create_default_context(cafile=str(directory / _AUTHORITY))
    context.load_cert_chain(directory / _CLIENT[0], directory / _CLIENT[1])
    return context
