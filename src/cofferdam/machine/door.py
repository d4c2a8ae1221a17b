"""The way in to an instance's Docker API: where it is, and a client of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import docker
import docker.tls

_API_VERSION = "1.44"


@dataclass(frozen=True)
class Door:
    """Where the Docker API of an instance is: `tcp://` address and the directory of ca.pem, cert.pem and key.pem."""

    docker_host: str
    cert_path: Path


def connect(door: Door, timeout: int = 120) -> docker.DockerClient:
    """A client of the instance's Docker API over mutual TLS; `timeout` in seconds for one request.

    Proxies and certificate bundles that the environment names have no say: the address is this machine's own.
    """
    pem = door.cert_path
    tls = docker.tls.TLSConfig(
        client_cert=(str(pem / "cert.pem"), str(pem / "key.pem")), ca_cert=str(pem / "ca.pem"), verify=True
    )
    # a given version keeps the client from asking for it before `trust_env` is off
    client = docker.DockerClient(base_url=door.docker_host, tls=tls, timeout=timeout, version=_API_VERSION)
    client.api.trust_env = False
    return client
