"""The docker program and ssh, aimed at one booted instance."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cofferdam.errors import InstanceError
from cofferdam.image.model import Image
from cofferdam.machine import api
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.report import BootReport
from cofferdam.machine.ssh import ssh_arguments
from cofferdam.run import Result, run, spawn
from cofferdam.tools.tree import ToolsTree

PROXY = "/run/docker.sock"
"""The API proxy's socket in the VM."""
ENGINE = "/run/cofferdam/engine/docker.sock"
"""dockerd's own socket in the VM, for the VM's root alone."""
_FORWARD_SECONDS = 60.0


@dataclass(frozen=True)
class Client:
    """Commands for one instance: `docker` over a door to its API, `shell` as root of a debug image."""

    environment: Mapping[str, str]
    ssh_port: int
    program: str
    config: Path
    key: Path
    known_hosts: Path

    def docker(self, *arguments: str, input: bytes | None = None, check: bool = True, timeout: float = 600) -> Result:
        """Run the docker program; its output is in the result."""
        environment = {**self.environment, "DOCKER_CONFIG": str(self.config), "DOCKER_CONTEXT": ""}
        return run([self.program, *arguments], env=environment, input=input, capture=True, check=check, timeout=timeout)

    def shell(self, command: str, input: bytes | None = None) -> str:
        """Run a shell command as root in the VM and return what it printed."""
        words = ssh_arguments(self.ssh_port, self.key, self.known_hosts, [command])
        return run(words, input=input, capture=True, timeout=900).stdout

    @contextmanager
    def direct(self) -> Iterator[Client]:
        """This client on dockerd's own socket, past the API proxy, which would not pass another runtime on.

        Raises:
            InstanceError: ssh does not forward the socket.
        """
        directory = Path(tempfile.mkdtemp(prefix="cofferdam-engine-"))
        path = directory / "docker.sock"
        program, *words = ssh_arguments(self.ssh_port, self.key, self.known_hosts)
        forward = spawn([program, "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{path}:{ENGINE}", *words])
        try:
            if not wait_until(path.exists, _FORWARD_SECONDS):
                raise InstanceError("ssh does not forward dockerd's socket", hint="Bench runs on the debug profile.")
            yield replace(self, environment={"DOCKER_HOST": f"unix://{path}", "DOCKER_TLS_VERIFY": "", "DOCKER_CERT_PATH": ""})
        finally:
            forward.terminate()
            forward.wait(10)
            shutil.rmtree(directory, ignore_errors=True)


def docker_program(tools: Path) -> str:
    """The docker program: this machine's, else the one of the tools tree."""
    return shutil.which("docker") or str(tools / "usr/bin/docker")


def client_of(report: BootReport, tools: ToolsTree, image: Image) -> Client:
    """A client of a booted instance, with a docker configuration of its own: the user's is neither read nor written.

    Raises:
        InstanceError: the image has no ssh.
    """
    if report.ssh_port is None or image.ssh_key is None:
        raise InstanceError("this image has no ssh", hint="Bench runs on the debug profile.")
    known_hosts = Path(str(api.status(report.instance)[0]["ssh"]["known_hosts"]))
    config = Path(tempfile.mkdtemp(prefix="cofferdam-docker-"))
    return Client(report.environment, report.ssh_port, docker_program(tools.path), config, image.ssh_key, known_hosts)
