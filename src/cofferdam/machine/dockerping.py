"""One request to the Docker API over mutual TLS: proof that the whole way in works."""

from __future__ import annotations

import http.client
import ssl
import time
from pathlib import Path

from cofferdam.errors import BootError
from cofferdam.machine.channels import LOOPBACK


def client_tls(certificates: Path) -> ssl.SSLContext:
    """A TLS client that shows the instance's certificate and trusts its authority only."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    return context


def ping(port: int, certificates: Path, timeout: float = 20.0, host: str = LOOPBACK) -> str:
    """Ask the Docker API for a sign of life until it gives one; returns its API version.

    Raises:
        BootError: none within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    context = client_tls(certificates)
    while True:
        connection = http.client.HTTPSConnection(host, port, timeout=max(1.0, deadline - time.monotonic()), context=context)
        try:
            connection.request("GET", "/_ping")
            answer = connection.getresponse()
            answer.read()
            if answer.status == http.client.OK:
                return answer.getheader("Api-Version") or ""
            reason = f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        if time.monotonic() > deadline:
            message = f"Docker is ready in the guest, but its API does not answer on port {port}: {reason}"
            raise BootError(message, hint="See `inv logs`; a proxy or firewall on this machine may be in the way.")
        time.sleep(0.2)
