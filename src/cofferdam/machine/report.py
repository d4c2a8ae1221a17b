"""What `boot` tells at its end, for people and for programs."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cofferdam.machine.context import environment, export_line, testcontainers

NO_CLIENT = (
    "not installed here: `apt-get install docker-cli` (Debian 12: docker.io), or https://docs.docker.com/engine/install/binaries/"
)


_PHASES = {"heartbeat": "kernel", "userspace": "user space", "docker": "Docker"}


@dataclass(frozen=True)
class BootReport:
    """A booted instance.

    Attributes:
        accelerator: what runs it.
        why: why that one.
        seconds: phase (`heartbeat`, `userspace`, `docker`) -> seconds after power-on.
        uptime: the same by the guest's clock, from its kernel's start.
        docker_host: `tcp://127.0.0.1:PORT`.
        cert_path: directory of ca.pem, cert.pem and key.pem.
        context: name of the docker context; none when it could not be made.
        shares: shared directories, `:ro` behind what the VM cannot change.
        current: whether it is docker's current one.
        socket: path of Docker's socket on the desktop; empty for none.
        proxy: through what the VM's pulls go, without a login; empty for none.
        image: which release it boots, and whether that was verified; empty for an image that was built here.
        docker_program: whether this machine has the docker program.
        notes: what else the user should know.
    """

    instance: str
    profile: str
    accelerator: str
    why: str
    kernel: str
    seconds: dict[str, float]
    uptime: dict[str, float]
    docker_host: str
    cert_path: Path
    context: str | None
    current: bool = False
    socket: str = ""
    proxy: str = ""
    docker_program: bool = field(default_factory=lambda: shutil.which("docker") is not None)
    ssh_port: int | None = None
    shares: tuple[str, ...] = ()
    image: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def environment(self) -> dict[str, str]:
        """DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""
        return environment(self.docker_host, self.cert_path)

    def as_dict(self) -> dict[str, object]:
        """Everything, for JSON."""
        more = {"cert_path": str(self.cert_path), "environment": self.environment, "testcontainers": testcontainers()}
        return {**asdict(self), **more}

    def _docker(self) -> str:
        if self.current:
            return f"docker run ...   (its current context is `{self.context}` until the instance stops)"
        return f"docker --context {self.context} run ..."

    def lines(self) -> list[str]:
        """The report as text."""
        option = "" if self.instance == "default" else f" --name {self.instance}"
        phases = [f"{name} {self.seconds[key]:.1f} s" for key, name in _PHASES.items() if key in self.seconds]
        lines = [
            f"instance       {self.instance} (profile {self.profile}, kernel {self.kernel or 'unknown'})",
            *([f"image          {self.image}"] if self.image else []),
            f"accelerator    {self.accelerator}: {self.why}",
            f"ready          {', '.join(phases)} after power-on",
        ]
        if self.context:
            lines.append(f"docker         {self._docker()}")
        if not self.docker_program:
            lines.append(f"docker client  {NO_CLIENT}")
        lines.append(f"or             {export_line(self.environment)}")
        if self.socket:
            lines.append(f"socket         {export_line({'DOCKER_HOST': f'unix://{self.socket}'})}")
        lines.append(f"testcontainers {export_line(testcontainers())}")
        if self.proxy:
            lines.append(f"proxy          {self.proxy}, for pulls, pushes and FROM, unless the policy names another")
        if self.shares:
            first = self.shares[0].removesuffix(":ro")
            lines.append(f"shared         {', '.join(self.shares)}   (docker run -v {first}/...:/...)")
        if self.ssh_port:
            lines.append(f"ssh            inv ssh{option}   (this image lets ssh in: it is for tests, not for work)")
        return [*lines, *(f"note           {note}" for note in self.notes)]
