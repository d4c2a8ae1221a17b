"""The VMs of one test session: built, booted in the background, handed out, and gone at its end whatever happened."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cofferdam.errors import CofferdamError
from cofferdam.image.build import build_vm
from cofferdam.image.model import Image
from cofferdam.machine import api
from cofferdam.machine.hostos import write_json
from cofferdam.machine.instance import Instance
from cofferdam.machine.settings import boot_settings
from cofferdam.profile import load_profile
from cofferdam.progress import Progress
from cofferdam.run import run
from cofferdam.tools.tree import ensure_tools
from vmtest.images import build_images, reference
from vmtest.vm import DockerProgram, Vm

BOOT_TIMEOUT = 420
# Two machines are at work at a time (see cofferdam.testing). Emulated processors that have no real one to run on wait for each other.
CPUS = max(1, (os.cpu_count() or 1) // 2)


class Machines:
    """Instances in a state directory of their own, so that a user's are never touched."""

    def __init__(self, progress: Progress) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cofferdam-test-"))
        self.progress = progress
        self.keep = False
        self._saved = {name: os.environ.get(name) for name in ("COFFERDAM_STATE_HOME", "DOCKER_CONFIG")}
        os.environ["COFFERDAM_STATE_HOME"] = str(self.directory / "state")
        os.environ["DOCKER_CONFIG"] = str(self.directory / "docker")
        (self.directory / "docker").mkdir()
        # One boot after the other: the first machine is at work while the second one comes up.
        self._boots = ThreadPoolExecutor(1)
        self._others = ThreadPoolExecutor(1)
        self._vms: dict[str, Future[Vm]] = {}
        self._images: Future[Path] = self._others.submit(build_images, progress)
        self._closing = False

    def start(self, profiles: Sequence[str]) -> None:
        """Begin to build and boot, in this order."""
        for profile in profiles:
            if profile not in self._vms:
                self._vms[profile] = self._boots.submit(self._boot, profile)

    def vm(self, profile: str) -> Vm:
        """The VM of a profile, once it is up; one that was not started yet is started now."""
        self.start([profile])
        return self._vms[profile].result()

    def _boot(self, profile: str) -> Vm:
        if self._closing:
            raise RuntimeError("the test session has ended")
        share = self.directory / "share"
        share.mkdir(exist_ok=True)
        wanted = (str(share),) if load_profile(profile).isolation != "none" else ()
        vm = self.boot(f"test-{profile}", profile, cpus=CPUS, memory="2G", shares=wanted)
        return replace(vm, share=share if wanted else None)

    def boot(self, name: str, profile: str, **settings: object) -> Vm:
        """Boot one more instance; who asks for it stops it."""
        image = self.image(profile)
        # The registries of the tests are on this machine, which no proxy of its environment leads to.
        usual = {"name": name, "profile": profile, "timeout": BOOT_TIMEOUT, "shares": (), "proxy": "none"}
        wanted = boot_settings(**{**usual, **settings})
        report = api.boot(wanted, self.progress, image)
        return Vm(profile, name, report, self.program(), self._load)

    @contextmanager
    def extra(self, name: str, profile: str, **settings: object) -> Iterator[Vm]:
        """A short-lived instance."""
        vm = self.boot(name, profile, **settings)
        try:
            yield vm
        finally:
            vm.stop()

    def image(self, profile: str) -> Image:
        """The image of a profile, built when something has changed."""
        return build_vm(load_profile(profile), self.progress)

    def program(self) -> DockerProgram:
        """The docker program of this machine, or that of the tools tree, with buildx and compose."""
        config = self.directory / "docker"
        tree = ensure_tools(self.progress).path
        file = config / "config.json"
        # Boots write here which context is the current one.
        settings = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        # buildx and compose, also for a docker program of this machine that came without them
        plugins = [str(tree / "usr/libexec/docker/cli-plugins")]
        if settings.get("cliPluginsExtraDirs") != plugins:
            write_json(file, settings | {"cliPluginsExtraDirs": plugins})
        return DockerProgram(Path(shutil.which("docker") or tree / "usr/bin/docker"), config)

    def current_context(self) -> str:
        """Docker's current context in the configuration of this session."""
        variables = {"DOCKER_HOST": "", "DOCKER_CONTEXT": "", "DOCKER_CONFIG": str(self.directory / "docker")}
        return run([self.program().path, "context", "show"], env=variables, capture=True).stdout.strip()

    def _load(self, vm: Vm, kind: str) -> str:
        vm.docker("load", "--quiet", "--input", self._images.result() / f"{kind}.tar", timeout=600)
        return reference(kind)

    def close(self) -> None:
        """Stop and delete every instance."""
        self._closing = True
        for future in self._vms.values():
            future.cancel()
        for profile, future in self._vms.items():
            if not future.done():
                with contextlib.suppress(CofferdamError):
                    Instance(f"test-{profile}").kill()
        self._boots.shutdown()
        for future in self._vms.values():
            if not future.cancelled() and future.exception() is None:
                future.result().close()
        for row in api.status():
            with contextlib.suppress(CofferdamError):
                api.stop(row["name"], force=True)
        self._others.shutdown(cancel_futures=True)
        self._restore()

    def _restore(self) -> None:
        for name, value in self._saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self.keep:
            self.progress.line(f"consoles and logs of the failed session: {self.directory}")
            for disk in self.directory.glob("state/instances/*/data.raw"):
                disk.unlink()
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
