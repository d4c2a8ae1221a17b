"""A company's network on this machine: a certificate authority, a proxy, and behind that servers with its certificates."""

from __future__ import annotations

import datetime
import http.server
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

KNOWN, UNKNOWN = "registry.company.test", "registry.elsewhere.test"
PAGE = b"a page of the company"


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.key = directory, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(self.name, self.key.public_key()).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))

    def server(self, host: str) -> ssl.SSLContext:
        """TLS of a server with this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        builder = self._builder(subject, key.public_key())
        made = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False).sign(
            self.key, hashes.SHA256()
        )
        kind = serialization.PrivateFormat.PKCS8
        text = key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
        file = self.directory / f"{host}.pem"
        file.write_bytes(text + made.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@dataclass
class Company:
    """A proxy on this machine, and behind it registries without images, and pages.

    Attributes:
        port: of the proxy.
        asked: hosts that it was asked for.
        paths: requests that a registry got, by its name.
    """

    port: int = 0
    asked: list[str] = field(default_factory=list)
    paths: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seen_by_the_vm(self) -> str:
        """The proxy's address in the VM, and in its containers."""
        return f"http://10.0.2.2:{self.port}"


@contextmanager
def serve(contexts: Mapping[str, ssl.SSLContext]) -> Iterator[Company]:
    """The company, with the TLS of its registries by their names; another host is asked for in vain."""
    company = Company()

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            company.asked.append(urlsplit(self.path).hostname or "")
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def do_CONNECT(self) -> None:
            host = self.path.partition(":")[0]
            company.asked.append(host)
            if host not in contexts:
                self.send_error(502)
                return
            self.send_response(200)
            self.end_headers()
            try:
                with contexts[host].wrap_socket(self.connection, server_side=True) as inner:
                    request = inner.recv(65536).split(b" ")
                    company.paths.append((host, request[1].decode()))
                    status = b"200 OK" if request[1] == b"/v2/" else b"404 Not Found"
                    body = b"{}" if request[1] == b"/v2/" else b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}'
                    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                    inner.sendall(head % (status, len(body)) + body)
            except OSError:
                pass  # the client does not trust it
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        company.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield company
        finally:
            server.shutdown()
