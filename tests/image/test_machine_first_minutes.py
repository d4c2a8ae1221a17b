"""README, "First ten minutes": every command is typed as it stands there, and prints what is shown below it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from cofferdam.errors import CofferdamError
from cofferdam.machine import api
from cofferdam.paths import ROOT, cache_home
from vmtest.console import Step, difference, steps
from vmtest.machines import Machines
from vmtest.verbs import inv

pytestmark = [pytest.mark.vm, pytest.mark.slow]

PORT = "8080"
"""The port that the README publishes."""
SECONDS = 600
# What a desktop may have set, and would make docker, curl or rich do something else than for a newcomer.
FOREIGN = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "FORCE_COLOR", "TTY_COMPATIBLE")


@pytest.fixture
def newcomer(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of somebody with an empty home and the docker program; what they boot is gone in the end."""
    machines.image("default")
    home, programs = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("programs")
    (programs / "docker").symlink_to(machines.program().path)
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN and not name.lower().endswith("_proxy")}
    yield {
        **kept,
        "HOME": str(home),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "COFFERDAM_CACHE_HOME": str(cache_home()),
    }
    with suppress(CofferdamError):
        api.stop("default", force=True)
    inv("delete", "--data", "--yes")


def port_that_is_free() -> str:
    """The README's port, or another where this machine has given it to some other program."""
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", int(PORT)))
        except OSError:
            taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def typed(step: Step, environment: Mapping[str, str], port: str) -> str:
    """What a command prints, errors included; it must succeed."""
    command = ["bash", "-c", step.command.replace(PORT, port)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"README.md:{step.line}: `{step.command}` ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def test_the_first_ten_minutes_are_as_the_readme_says(newcomer: Mapping[str, str]) -> None:
    port = port_that_is_free()
    for step in steps((ROOT / "README.md").read_text(encoding="utf-8"), "First ten minutes"):
        printed = typed(step, newcomer, port)
        unlike = difference([line.replace(PORT, port) for line in step.shown], printed)
        assert not unlike, f"README.md:{step.line}: `{step.command}`: {unlike}; it printed:\n{printed}"
    assert (Path(newcomer["HOME"]) / "hello-web/note").stat().st_uid == os.getuid()
