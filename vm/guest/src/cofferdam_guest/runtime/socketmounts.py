"""The question to the API proxy: may this container have the Docker socket?

The socket in question is the proxy's own door for containers, never dockerd's. The image is the one that dockerd's record of the
container names by id, so the answer holds for every way to start it. No answer is a no.
"""

from __future__ import annotations

from cofferdam_guest.config import jsonlite

DOOR = "/run/docker.sock"
PROXY = "/run/cofferdam/socket-mounts.sock"
_TIMEOUT = 40.0
_LIMIT = 65536


def denial(container: str, docker_root: str, proxy: str = PROXY) -> str:
    """Return why the container may not have the socket; empty when it may."""
    try:
        with open(f"{docker_root}/containers/{container}/config.v2.json", "rb") as file:
            record = jsonlite.loads(file.read().decode("utf-8"))
        question = {"image": str(record["Image"]), "name": str(record["Config"]["Image"])}
        answer = jsonlite.loads(_ask(jsonlite.dumps(question) + "\n", proxy))
        return "" if answer["allowed"] is True else str(answer["message"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"docker socket mount denied: the API proxy did not judge the image ({error})"


def _ask(question: str, proxy: str) -> str:
    import _socket  # the socket module itself would import half the standard library

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(_TIMEOUT)
        connection.connect(proxy)
        connection.sendall(question.encode("ascii"))
        data = b""
        while not data.endswith(b"\n") and len(data) < _LIMIT:
            piece = connection.recv(4096)
            if not piece:
                break
            data += piece
        return data.decode("utf-8")
    finally:
        connection.close()
