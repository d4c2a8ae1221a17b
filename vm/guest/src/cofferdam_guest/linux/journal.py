"""The journal's native protocol: one datagram with named fields.

Source: systemd's documentation of the native journal protocol.
"""

from __future__ import annotations

SOCKET = "/run/systemd/journal/socket"
# where the messenger hears of refusals, in the same protocol
REFUSALS = "/run/cofferdam/refusals"
# a datagram that does not fit is not sent at all
FIELD_LIMIT = 4096


def datagram(fields: dict[str, str]) -> bytes:
    """Return `fields` as the journal wants them: length-prefixed where a value has several lines."""
    parts = []
    for name, value in fields.items():
        data = value[:FIELD_LIMIT].encode("utf-8", "replace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def fields(data: bytes) -> dict[str, str]:
    """Read a datagram again; what follows a broken part is left out."""
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[9 + size :]
        found[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return found


def refused(fields: dict[str, str], path: str = SOCKET, messenger: str = REFUSALS) -> None:
    """Send the journal a refusal, and the messenger, which hands it to the host."""
    for each in (path, messenger):
        send(fields, each)


def send(fields: dict[str, str], path: str = SOCKET) -> None:
    """Send one entry; telling never fails or delays the caller."""
    try:
        import _socket  # the socket module itself would import half the standard library

        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            connection.setblocking(False)
            connection.sendto(datagram(fields), path)
        finally:
            connection.close()
    except OSError:
        pass
