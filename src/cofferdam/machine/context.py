"""The docker context of an instance: made by the docker program when there is one, written in its format otherwise."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cofferdam.errors import CofferdamError
from cofferdam.machine.channels import LOOPBACK
from cofferdam.machine.credentials import CLIENT_FILES
from cofferdam.machine.current import ConfigUnusable, give_back, identity
from cofferdam.machine.hostos import private_directory, write_private
from cofferdam.run import CommandError, run

_OURS = "Cofferdam instance "


class ContextTaken(CofferdamError):
    """A context of this name exists and somebody else made it."""


@dataclass(frozen=True)
class DockerContext:
    """A docker context in one configuration directory.

    Attributes:
        name: `cofferdam`, or `cofferdam-NAME`.
        description: names the instance's directory; it is how a context of ours is told from others.
        config: docker's configuration directory.
    """

    name: str
    description: str
    config: Path

    @property
    def meta(self) -> Path:
        """Directory of the context's metadata."""
        return self.config / "contexts" / "meta" / identity(self.name)

    @property
    def tls(self) -> Path:
        """Directory of the context's keys."""
        return self.config / "contexts" / "tls" / identity(self.name)


class Removed(NamedTuple):
    """A context that was removed, and the one that is current in its place; none when another was current."""

    name: str
    current: str | None


def context_name(instance: str) -> str:
    """Name of the docker context of an instance."""
    return "cofferdam" if instance == "default" else f"cofferdam-{instance}"


def docker_config() -> Path:
    """Docker's configuration directory: $DOCKER_CONFIG or ~/.docker."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker").absolute()


def instance_context(instance: str, directory: Path, config: Path | None = None) -> DockerContext:
    """The context that belongs to an instance with this state directory."""
    return DockerContext(context_name(instance), f"{_OURS}{instance} in {directory}", config or docker_config())


def owner_of(context: DockerContext) -> Path | None:
    """The directory of the instance that a context belongs to, by its description; none when it is no instance's."""
    text = description_of(context) or ""
    directory = Path(text.partition(" in ")[2])
    ours = instance_context(directory.name, directory, context.config)
    return directory if (text, context.name) == (ours.description, ours.name) else None


def environment(host: str, certificates: Path) -> dict[str, str]:
    """Variables for programs that know no contexts."""
    return {"DOCKER_HOST": host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}


def testcontainers() -> dict[str, str]:
    """Variables for Testcontainers: where published ports are, and where the VM has the socket that its own containers mount."""
    return {"TESTCONTAINERS_HOST_OVERRIDE": LOOPBACK, "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE": "/var/run/docker.sock"}


def export_line(variables: Mapping[str, str]) -> str:
    """The line that sets variables in a shell."""
    return " ".join(["export", *(f"{name}={shlex.quote(value)}" for name, value in variables.items())])


def description_of(context: DockerContext) -> str | None:
    """The description of the existing context of that name; none when there is no such context, empty when it has none."""
    try:
        data = json.loads((context.meta / "meta.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return ""
    metadata: Any = data.get("Metadata") if isinstance(data, dict) else None
    return str(metadata.get("Description", "")) if isinstance(metadata, dict) else ""


def create(context: DockerContext, host: str, certificates: Path) -> str:
    """Make the context, replacing an older one of the same instance.

    Args:
        context: what to make.
        host: `tcp://127.0.0.1:PORT`.
        certificates: directory of ca.pem, cert.pem and key.pem.

    Returns:
        `docker` or `written`: who made it.

    Raises:
        ContextTaken: the name is in use by a context that is not this instance's.
    """
    found = description_of(context)
    if found is not None and found != context.description:
        hint = f"Remove it with `docker context rm {context.name}`, or use the DOCKER_HOST lines."
        message = f"there already is a docker context `{context.name}` that this instance did not make; it is left alone"
        raise ContextTaken(message, hint=hint)
    program = shutil.which("docker")
    if program and _create_by_docker(program, context, host, certificates, update=found is not None):
        return "docker"
    _write(context, host, certificates)
    return "written"


def _create_by_docker(program: str, context: DockerContext, host: str, certificates: Path, *, update: bool) -> bool:
    ca, cert, key = (certificates / name for name in CLIENT_FILES)
    # The value is one CSV record, so a path with a comma in it cannot be given this way.
    if any(character in str(certificates) for character in ',"\n'):
        return False
    endpoint = f"host={host},ca={ca},cert={cert},key={key}"
    verb = "update" if update else "create"
    command = [program, "context", verb, context.name, "--description", context.description, "--docker", endpoint]
    return _docker(command, context)


def _docker(command: list[str], context: DockerContext) -> bool:
    # DOCKER_HOST and DOCKER_CONTEXT of the caller have no say in what is written here.
    settings = {"DOCKER_CONFIG": str(context.config), "DOCKER_HOST": "", "DOCKER_CONTEXT": ""}
    try:
        return run(command, env=settings, capture=True, check=False, timeout=60).returncode == 0
    except CommandError:
        return False


def _write(context: DockerContext, host: str, certificates: Path) -> None:
    keys = private_directory(context.tls / "docker")
    for name in CLIENT_FILES:
        write_private(keys / name, (certificates / name).read_bytes())
    value = {
        "Name": context.name,
        "Metadata": {"Description": context.description},
        "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}},
    }
    private_directory(context.meta)
    write_private(context.meta / "meta.json", json.dumps(value))


def remove(context: DockerContext, former: Sequence[str] = ()) -> Removed | None:
    """Remove the context if it is this instance's; when it is the current one, the latest former one that still exists is then.

    Args:
        context: what to remove.
        former: names of contexts, the latest first.

    Returns:
        What was done; none when there was none of ours.
    """
    if description_of(context) != context.description:
        return None
    following = None
    # First, so that no moment leaves a current context that does not exist. Settings that cannot be read stay as they are.
    with contextlib.suppress(ConfigUnusable):
        following = give_back(context.config, context.name, former)
    program = shutil.which("docker")
    if program:
        _docker([program, "context", "rm", "--force", context.name], context)
    shutil.rmtree(context.meta, ignore_errors=True)
    shutil.rmtree(context.tls, ignore_errors=True)
    return Removed(context.name, following)
