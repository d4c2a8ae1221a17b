"""What the host hands over on Hyper-V, which has no SMBIOS strings for it: a small disk, read once and then taken off.

On it are the very strings that QEMU would hand over, behind a line with their length and hash. They become files in systemd's
credential store, from which units import them as from SMBIOS. Anything that is not as expected hands over nothing: then the
Docker API has no port.
"""

import os
import sys

from cofferdam_guest.agent.programs import DiskError, call
from cofferdam_guest.linux.scsidisk import HANDOVER, DiskMissing, await_disk

MAGIC = b"cofferdam-handover 1"
LIMIT = 128 * 2**10
PREFIX = b"io.systemd.credential.binary:cofferdam."
RESOLVER = "resolver"
CREDENTIALS = frozenset({"tls-ca", "tls-cert", "tls-key", "admin-settings", "ca", "network", "shares"})
STORE = "/run/credstore"
RESOLV_CONF, OWN_RESOLV_CONF = "/etc/resolv.conf", "/run/cofferdam/resolv.conf"
_SECONDS = 10.0
_SYS = "/sys/block"
_RESOLVERS = 3
"""As many as the C library asks."""


class HandoverError(Exception):
    """What is on the disk cannot be used; the text says why."""


def parse(data: bytes) -> dict[str, bytes]:
    """What is handed over, by name.

    Args:
        data: the first bytes of the disk, `LIMIT` at most.

    Raises:
        HandoverError: it is not all there, or not all known.
    """
    from binascii import Error, a2b_base64
    from hashlib import sha256

    head, _, rest = data.partition(b"\n")
    words = head.removeprefix(MAGIC).split()
    if not head.startswith(MAGIC + b" ") or len(words) != 2 or not words[0].isdigit() or len(words[0]) > 6:
        raise HandoverError("it does not begin as a disk of ours")
    payload = rest[: int(words[0])]
    if len(payload) != int(words[0]) or sha256(payload).hexdigest().encode() != words[1]:
        raise HandoverError("it is cut or damaged")
    found: dict[str, bytes] = {}
    for line in payload.splitlines():
        key, _, value = line.partition(b"=")
        name = key.removeprefix(PREFIX).decode("ascii", "replace")
        if not key.startswith(PREFIX) or name not in CREDENTIALS | {RESOLVER} or name in found:
            raise HandoverError(f"it holds {key[:80]!r}, which nothing here expects")
        try:
            found[name] = a2b_base64(value, strict_mode=True)
        except Error as error:
            raise HandoverError(f"{name} is not base64") from error
    return found


def resolvers(text: bytes) -> str:
    """A resolv.conf from addresses, one a line.

    Raises:
        HandoverError: something else is among them.
    """
    from ipaddress import AddressValueError, IPv4Address

    try:
        addresses = [IPv4Address(line) for line in text.decode("ascii").split()]
    except (UnicodeDecodeError, AddressValueError) as error:
        raise HandoverError(f"resolvers: {error}") from error
    return "".join(f"nameserver {address}\n" for address in addresses[:_RESOLVERS])


def write(directory: str, name: str, data: bytes) -> None:
    """Make a file that only root reads; one of that name must not be there."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    handle = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        file.write(data)


def read_once(name: str, devices: str = "/dev", blocks: str = _SYS) -> bytes:
    """The first bytes of a disk, which the machine has no more afterwards, whatever is on it."""
    try:
        with open(f"{devices}/{name}", "rb", buffering=0) as disk:
            return os.pread(disk.fileno(), LIMIT, 0)
    finally:
        with open(f"{blocks}/{name}/device/delete", "w") as switch:
            switch.write("1")


def hand_over(found: dict[str, bytes], store: str = STORE, resolv_conf: str = OWN_RESOLV_CONF) -> bool:
    """Write what is for units, all of it or nothing; whether there is a resolv.conf to be put in the image's place."""
    text = resolvers(found.get(RESOLVER, b""))
    for name in sorted(CREDENTIALS & found.keys()):
        write(store, f"cofferdam.{name}", found[name])
    if text:
        os.makedirs(os.path.dirname(resolv_conf), mode=0o755, exist_ok=True)
        write(os.path.dirname(resolv_conf), os.path.basename(resolv_conf), text.encode())
        # Every program reads it, none writes it.
        os.chmod(resolv_conf, 0o644)
    return bool(text)


def main() -> int:
    """Hand over what the disk holds; the exit status."""
    try:
        if hand_over(parse(read_once(await_disk(HANDOVER, _SECONDS)))):
            call("/usr/bin/mount", "--bind", OWN_RESOLV_CONF, RESOLV_CONF)
            call("/usr/bin/mount", "-o", "remount,bind,ro,nosuid,nodev,noexec", RESOLV_CONF)
    except (HandoverError, DiskMissing, DiskError, OSError) as error:
        print(f"cofferdam: nothing is handed over: {error}.", file=sys.stderr, flush=True)
        return 1
    return 0
