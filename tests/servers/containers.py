"""A Docker API that tells which containers run: real HTTP over mutual TLS, as far as the port keeper asks."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import socketserver
import ssl
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


def container(name: str, *ports: int, proto: str = "tcp", address: str = "0.0.0.0") -> dict[str, Any]:
    """One row of `GET /containers/json`."""
    rows = [{"IP": address, "PrivatePort": 80, "PublicPort": port, "Type": proto} for port in ports]
    return {"Id": f"id-of-{name}", "Names": [f"/{name}"], "Ports": rows}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: DockerServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if "/events" in self.path:
            self._events()
        elif self.server.drops:
            self.server.drops -= 1
            self.close_connection = True
        else:
            self._answer(200, self.server.document(self.path))

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        line = b'{"Type": "container"}\n'
        with self.server.news:
            seen = self.server.happened
            while not self.server.ended:
                self.server.news.wait()
                for _ in range(self.server.happened - seen):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                seen = self.server.happened
        self.close_connection = True


class DockerServer(socketserver.ThreadingTCPServer):
    """Serves until closed.

    Args:
        port: on 127.0.0.1; 0 takes a free one.
        smbios: directory of the guest's credentials.

    Attributes:
        drops: how many further lists end without an answer.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, smbios: Path) -> None:
        self.containers: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.drops = 0
        self.connections: list[ssl.SSLSocket] = []
        self.news, self.happened, self.ended = threading.Condition(), 0, False
        self._tls = self._context(smbios)
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    @staticmethod
    def _context(smbios: Path) -> ssl.SSLContext:
        ca, cert, key = (
            base64.b64decode((smbios / name).read_text().partition("=")[2]) for name in ("tls-ca", "tls-cert", "tls-key")
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ca.decode())
        with tempfile.NamedTemporaryFile() as both:
            both.write(cert + key)
            both.flush()
            context.load_cert_chain(both.name)
        return context

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        wrapped = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.connections.append(wrapped)
        return wrapped, address

    def handle_error(self, *_: object) -> None:
        """A client that leaves in the middle is no error."""

    def document(self, path: str) -> Any:
        """The answer to a request that is not for events."""
        return self.containers

    def run(self, *containers: dict[str, Any]) -> None:
        """From now on these run; the events say that something happened."""
        with self.news:
            self.containers, self.happened = list(containers), self.happened + 1
            self.news.notify_all()

    def lists(self) -> int:
        """How often the containers were asked for."""
        return sum("/containers/json" in path for path in self.requests)

    def close(self) -> None:
        """End, connections that are kept and streams of events included."""
        with self.news:
            self.ended = True
            self.news.notify_all()
        self.shutdown()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join(10)
