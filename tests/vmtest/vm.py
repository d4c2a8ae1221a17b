"""A booted VM under test: the host's docker program against its API, and root's shell inside it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import paramiko
import testinfra

from cofferdam.machine import api
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.instance import Instance
from cofferdam.machine.report import BootReport
from cofferdam.machine.ssh import ssh_arguments
from cofferdam.run import Process, Result, run, spawn
from vmtest.images import NEEDS

DOCKER_TIMEOUT = 240.0
_SSH_TIMEOUT = 120.0
ENGINE = "/run/cofferdam/engine/docker.sock"


class Broken(Exception):
    """The harness or a probe does not work: never what an isolation row may fail with."""


@dataclass(frozen=True)
class DockerProgram:
    """The docker program of this machine and the configuration directory of the test session."""

    path: Path
    config: Path


@dataclass
class Vm:
    """One booted instance.

    Attributes:
        profile: `debug`, or `baseline` for the one without isolation.
        instance: its name.
        report: what `boot` said.
        program: the docker program.
        load_image: brings a test image into this VM and returns its reference.
        share: directory of this machine that the VM sees at the same path; none when it sees no such.
        through_proxy: whether docker talks to the API proxy, as every user does, and not to dockerd's own socket.
    """

    profile: str
    instance: str
    report: BootReport
    program: DockerProgram
    load_image: Callable[[Vm, str], str]
    share: Path | None = None
    through_proxy: bool = True
    _images: dict[str, str] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _forward: Process[bytes] | None = None

    @property
    def isolated(self) -> bool:
        """Whether this VM's profile promises isolation."""
        return self.profile != "baseline"

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """What docker clients need to find this VM."""
        return {**self.report.environment, "DOCKER_CONFIG": str(self.program.config), "DOCKER_CONTEXT": ""}

    @cached_property
    def boundary(self) -> Vm:
        """This VM by dockerd's own socket, which only root in the VM can reach: what holds when the API proxy is bypassed.

        Without isolation there is no proxy, and it is the VM itself.
        """
        if not self.isolated:
            return self
        directory = Path(tempfile.mkdtemp(prefix="cofferdam-engine-"))
        path, door = directory / "docker.sock", api.status(self.instance)[0]["ssh"]
        program, *words = ssh_arguments(door["port"], Path(door["key"]), Path(door["known_hosts"]))
        forward = [program, "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{path}:{ENGINE}", *words]
        self._forward = spawn(forward)
        other = replace(self, through_proxy=False)
        other.__dict__["host"] = self.host
        other.__dict__["environment"] = {
            "DOCKER_HOST": f"unix://{path}",
            "DOCKER_TLS_VERIFY": "",
            "DOCKER_CERT_PATH": "",
            "DOCKER_CONFIG": str(self.program.config),
            "DOCKER_CONTEXT": "",
        }
        if not wait_until(path.exists, _SSH_TIMEOUT):
            raise Broken("ssh does not forward dockerd's socket")
        return other

    def check_alive(self) -> None:
        """See to it that the machine has not ended.

        Raises:
            Broken: it has; the message holds the end of its console.
        """
        instance = Instance(self.instance)
        if not instance.alive:
            console = instance.console.read_text(encoding="utf-8", errors="replace") if instance.console.exists() else ""
            raise Broken(f"the VM {self.instance} has ended:\n{console[-2000:]}")

    def with_environment(self, variables: Mapping[str, str]) -> Vm:
        """This VM by a docker program that has other variables than `environment`."""
        other = replace(self)
        other.__dict__["environment"] = {**self.environment, **variables}
        return other

    def docker(
        self, *args: str | Path, input: bytes | None = None, check: bool = True, timeout: float = DOCKER_TIMEOUT
    ) -> Result:
        """Run the docker program against this VM; its output is in the result.

        Raises:
            CommandError: with `check`, on a non-zero status; always after `timeout` seconds.
        """
        return run([self.program.path, *args], env=self.environment, input=input, capture=True, check=check, timeout=timeout)

    def succeed(self, *args: str | Path, input: bytes | None = None, timeout: float = DOCKER_TIMEOUT) -> str:
        """Run docker, which must succeed; its standard output."""
        done = self.docker(*args, input=input, check=False, timeout=timeout)
        words = " ".join(map(str, args))
        assert done.returncode == 0, f"`docker {words}` ended with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def fail(self, *args: str | Path, match: str, input: bytes | None = None, timeout: float = DOCKER_TIMEOUT) -> str:
        """Run docker, which must fail with a message that matches a regular expression; the message."""
        done = self.docker(*args, input=input, check=False, timeout=timeout)
        words, message = " ".join(map(str, args)), done.stderr + done.stdout
        assert done.returncode != 0, f"`docker {words}` succeeded: {message}"
        assert re.search(match, message), f"`docker {words}` failed with {message!r}, not with {match!r}"
        return message

    def run(self, *options: str, image: str = "busybox", command: Sequence[str], input: bytes | None = None) -> str:
        """`docker run --rm`, which must succeed; its standard output."""
        return self.succeed("run", "--rm", *options, self.image(image), *command, input=input)

    def name(self, kind: str = "t") -> str:
        """A container name that nobody else has; the container is removed when the test ends."""
        name = f"{kind}-{uuid.uuid4().hex[:10]}"
        self._names.append(name)
        return name

    def remove_named(self) -> None:
        """Remove the containers that got their names from `name`."""
        names, self._names = self._names, []
        if names:
            self.docker("rm", "--force", "--volumes", *names, check=False)

    def image(self, kind: str) -> str:
        """Reference of a test image (`busybox`, `debian` or `dind`), brought into the VM at the first use."""
        if kind in NEEDS:
            self.image(NEEDS[kind])
        if kind not in self._images:
            self._images[kind] = self.load_image(self, kind)
        return self._images[kind]

    @cached_property
    def host(self) -> Any:
        """The VM as testinfra sees it, over ssh as root; the server's key is known from the build."""
        host = testinfra.get_host(f"paramiko://{self.instance}")
        host.backend.__dict__["client"] = self._ssh()
        return host

    def _ssh(self) -> paramiko.SSHClient:
        door = api.status(self.instance)[0]["ssh"]
        kind, key = Path(door["known_hosts"]).read_text(encoding="ascii").split()[1:3]
        if kind != "ssh-ed25519":
            raise Broken(f"unexpected type of host key: {kind}")
        client = paramiko.SSHClient()
        name = f"[{door['host']}]:{door['port']}"
        client.get_host_keys().add(name, kind, paramiko.Ed25519Key(data=base64.b64decode(key)))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(
            door["host"],
            port=door["port"],
            username=door["user"],
            key_filename=door["key"],
            timeout=_SSH_TIMEOUT,
            banner_timeout=_SSH_TIMEOUT,
            auth_timeout=_SSH_TIMEOUT,
            look_for_keys=False,
            allow_agent=False,
        )
        return client

    def shell(self, command: str) -> str:
        """Run a shell command as the VM's root, which must succeed; its standard output."""
        done = self.host.run_expect([*range(256)], command)
        assert done.rc == 0, f"`{command}` in the VM ended with {done.rc}: {done.stderr}{done.stdout}"
        return str(done.stdout)

    def python(self, script: str, *args: str) -> Any:
        """Run a Python script as the VM's root; what it printed as JSON."""
        channel = self.host.backend.client.get_transport().open_session()
        words = " ".join(f"'{arg}'" for arg in args)
        channel.exec_command(f"python3 -IS - {words}")
        channel.sendall(script.encode())
        channel.shutdown_write()
        out, err = channel.makefile("rb").read(), channel.makefile_stderr("rb").read()
        if channel.recv_exit_status() != 0:
            raise Broken(f"the script failed in the VM: {err.decode()}")
        return json.loads(out)

    def console(self, lines: int = 30) -> str:
        """The last lines of the serial console."""
        return "\n".join(api.logs(self.instance, lines=lines))

    def close(self) -> None:
        """Close the connections."""
        if self._forward is not None:
            self._forward.terminate()
            self._forward.wait(10)
            self._forward = None
            shutil.rmtree(Path(self.boundary.environment["DOCKER_HOST"].removeprefix("unix://")).parent)
            del self.__dict__["boundary"]
        if "host" in self.__dict__:
            self.host.backend.client.close()
            del self.__dict__["host"]

    @property
    def qemu_pid(self) -> int:
        """Process id of QEMU on this machine."""
        return int(api.status(self.instance)[0]["pid"])

    def stop(self) -> None:
        """Stop and delete the instance."""
        self.close()
        api.stop(self.instance, force=True)
        api.remove(self.instance)

    @property
    def record(self) -> Instance:
        """The instance's own object."""
        return Instance(self.instance)
