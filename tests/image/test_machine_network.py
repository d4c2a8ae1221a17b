"""A machine in a company's network: its proxy, its certificate authority, small packets; and tools that insist on a Unix socket."""

from __future__ import annotations

import datetime
import http.server
import os
import ssl
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cofferdam.machine import api
from vmtest.flows import network
from vmtest.machines import Machines
from vmtest.vm import Vm

pytestmark = [pytest.mark.vm, pytest.mark.slow]

KNOWN, UNKNOWN = "registry.company.test", "registry.elsewhere.test"
MTU = 1400


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
    """A proxy on this machine, and behind it two registries without images.

    Attributes:
        port: of the proxy.
        asked: hosts that it was asked for.
        paths: requests that a registry got, by its name.
    """

    port: int = 0
    asked: list[str] = field(default_factory=list)
    paths: list[tuple[str, str]] = field(default_factory=list)


def serve(company: Company, contexts: dict[str, ssl.SSLContext]) -> http.server.ThreadingHTTPServer:
    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            host = self.path.partition(":")[0]
            company.asked.append(host)
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

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    company.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@dataclass(frozen=True)
class Networked:
    """The machine, the company, the path of the socket, and docker's current context before the boot."""

    vm: Vm
    company: Company
    socket: Path
    before: str


@pytest.fixture(scope="module")
def networked(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Networked]:
    directory = tmp_path_factory.mktemp("company")
    ours, others, company = Authority(directory, "company"), Authority(directory, "others"), Company()
    server = serve(company, {KNOWN: ours.server(KNOWN), UNKNOWN: others.server(UNKNOWN)})
    path = machines.directory / "docker.sock"
    before = machines.current_context()
    options = {"memory": "1G", "mtu": str(MTU), "proxy": f"http://127.0.0.1:{company.port}"}
    with machines.extra("network", "debug", socket=path, ca_files=(ours.file,), **options) as vm:
        yield Networked(vm, company, path, before)
    server.shutdown()
    server.server_close()


def test_pulls_go_through_the_proxy_and_trust_the_companys_authority(networked: Networked) -> None:
    """The registry's own answer arrives; it names a host that no resolver knows."""
    networked.vm.fail("pull", f"{KNOWN}/tool:1", match="not found|manifest unknown")
    assert KNOWN in networked.company.asked
    assert (KNOWN, "/v2/tool/manifests/1") in networked.company.paths


def test_another_authority_is_not_trusted(networked: Networked) -> None:
    networked.vm.fail("pull", f"{UNKNOWN}/tool:1", match="x509: certificate signed by unknown authority")
    assert not [path for host, path in networked.company.paths if host == UNKNOWN]


def test_containers_may_have_the_authorities_and_not_change_them(networked: Networked) -> None:
    vm = networked.vm
    options = ("-v", "/run/cofferdam/ca.pem:/etc/ssl/cert.pem:ro")
    script = "grep -c BEGIN /etc/ssl/cert.pem; echo x >>/etc/ssl/cert.pem || echo refused"
    count, refused = vm.run(*options, command=("sh", "-c", f"({script}) 2>/dev/null")).split()
    assert int(count) == 1 + int(vm.shell("grep -c BEGIN /etc/ssl/certs/ca-certificates.crt"))
    assert refused == "refused"
    vm.fail("run", "--rm", "-v", "/run/cofferdam/ca.pem:/x", vm.image("busybox"), "true", match="restricted host mount")


def test_packets_are_no_larger_than_asked(networked: Networked) -> None:
    vm, read = networked.vm, ("cat", "/sys/class/net/eth0/mtu")
    assert vm.shell("cat /sys/class/net/eth0/mtu").strip() == str(MTU)
    assert vm.run(command=read).strip() == str(MTU)
    with network(vm) as name:
        assert vm.run("--network", name, command=read).strip() == str(MTU)


def test_the_socket_is_docker_for_tools_that_want_one(networked: Networked) -> None:
    """Without certificates; what is sent to its end arrives, and the answer after it."""
    mode = networked.socket.lstat()
    assert stat.S_ISSOCK(mode.st_mode) and stat.S_IMODE(mode.st_mode) == 0o600 and mode.st_uid == os.getuid()
    variables = {"DOCKER_HOST": f"unix://{networked.socket}", "DOCKER_TLS_VERIFY": "", "DOCKER_CERT_PATH": ""}
    by_socket = networked.vm.with_environment(variables)
    data = os.urandom(300_000)
    said = by_socket.run("-i", command=("sh", "-c", "wc -c; echo end"), input=data)
    assert said.split() == ["300000", "end"]


def test_the_context_is_current_until_the_machine_stops(machines: Machines, networked: Networked) -> None:
    """The last row: the machine is stopped. The socket is gone with it, and docker's former context is back."""
    assert machines.current_context() == "cofferdam-network" != networked.before
    networked.vm.close()
    api.stop("network")
    assert machines.current_context() == networked.before
    assert not networked.socket.exists()
