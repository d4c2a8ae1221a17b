"""What the suites of Docker workflows share: containers that outlive one test, id maps, owners in tar streams."""

from __future__ import annotations

import io
import re
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cofferdam.machine.door import Door, connect
from vmtest.vm import Vm

RANGE = 65536
FIRST = 100000
_MAP = re.compile(r"^\s*0\s+(\d+)\s+(\d+)\s*$", re.MULTILINE)
FOREVER = ("sleep", "100000")


def base_of(text: str) -> int:
    """The id in the VM of a container's root, from a text that holds its uid_map; 0 means not shifted.

    Raises:
        AssertionError: no map in the text.
    """
    found = _MAP.search(text)
    assert found, f"no uid_map in: {text!r}"
    return int(found[1])


def shifted_base(text: str) -> int:
    """As `base_of`, for a map that must be a whole range of its own.

    Raises:
        AssertionError: the map is not one exclusive range.
    """
    found = _MAP.search(text)
    assert found, f"no uid_map in: {text!r}"
    base, size = int(found[1]), int(found[2])
    assert size == RANGE and base >= FIRST and (base - FIRST) % RANGE == 0, f"not an exclusive range: {found[0].strip()}"
    return base


@dataclass(frozen=True)
class Box:
    """A container under test."""

    vm: Vm
    name: str

    def exec(self, *argv: str, options: Sequence[str] = (), input: bytes | None = None) -> str:
        """Run a program in the container; its standard output.

        Raises:
            AssertionError: it failed.
        """
        done = self.vm.docker("exec", *options, self.name, *argv, input=input, check=False)
        assert done.returncode == 0, f"{argv} in {self.name} ended with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def sh(self, script: str, *options: str) -> str:
        """Run a shell script in the container; its standard output, stripped."""
        return self.exec("sh", "-ec", script, options=options).strip()

    def refuses(self, script: str, *options: str, match: str) -> str:
        """Run a shell script that must fail with a message; the message.

        Raises:
            AssertionError: it succeeded, or said something else.
        """
        done = self.vm.docker("exec", *options, self.name, "sh", "-ec", script, check=False)
        message = done.stderr + done.stdout
        assert done.returncode != 0, f"`{script}` succeeded in {self.name}: {message}"
        assert re.search(match, message), f"`{script}` failed with {message!r}, not with {match!r}"
        return message

    @property
    def base(self) -> int:
        """The id in the VM of the container's root."""
        return base_of(self.exec("cat", "/proc/self/uid_map"))

    @property
    def pid(self) -> int:
        """Process id of the container's first process in the VM."""
        return int(self.inspect("{{.State.Pid}}"))

    def inspect(self, template: str) -> str:
        """A field of `docker inspect`."""
        return self.vm.succeed("inspect", "--format", template, self.name).strip()

    def remove(self) -> None:
        """Remove the container and its anonymous volumes, whatever its state."""
        self.vm.docker("rm", "--force", "--volumes", self.name, check=False)


def new_name(kind: str = "flow") -> str:
    """A name no other container, volume or network has."""
    return f"{kind}-{uuid.uuid4().hex[:10]}"


def start(vm: Vm, *options: str, image: str = "busybox", command: Sequence[str] = FOREVER) -> Box:
    """Start a container in the background; the caller removes it."""
    name = new_name()
    vm.succeed("run", "--detach", "--name", name, *options, vm.image(image) if "/" not in image else image, *command)
    return Box(vm, name)


@contextmanager
def box(vm: Vm, *options: str, image: str = "busybox", command: Sequence[str] = FOREVER) -> Iterator[Box]:
    """A container in the background that is removed at the end."""
    made = Box(vm, new_name())
    reference = vm.image(image) if "/" not in image else image
    try:
        vm.succeed("run", "--detach", "--name", made.name, *options, reference, *command)
        yield made
    finally:
        made.remove()


@contextmanager
def volume(vm: Vm, *options: str) -> Iterator[str]:
    """A named volume that is removed at the end."""
    name = new_name("vol")
    vm.succeed("volume", "create", *options, name)
    try:
        yield name
    finally:
        vm.docker("volume", "rm", "--force", name, check=False)


@contextmanager
def network(vm: Vm, *options: str) -> Iterator[str]:
    """A user network that is removed at the end."""
    name = new_name("net")
    vm.succeed("network", "create", *options, name)
    try:
        yield name
    finally:
        vm.docker("network", "rm", name, check=False)


@contextmanager
def sdk(vm: Vm) -> Iterator[Any]:
    """The Docker API of the VM by the Python client, for what the docker program cannot hand out as bytes."""
    client = connect(Door(vm.report.docker_host, vm.report.cert_path), timeout=300)
    try:
        yield client.api
    finally:
        client.close()


def cp_out(vm: Vm, container: str, path: str) -> bytes:
    """The tar stream that `docker cp CONTAINER:PATH -` prints."""
    with sdk(vm) as api:
        chunks, _ = api.get_archive(container, path)
        return b"".join(chunks)


@dataclass(frozen=True)
class Member:
    """What a tar header says of one file."""

    uid: int
    gid: int
    mode: int
    content: bytes | None

    @property
    def owner(self) -> tuple[int, int]:
        """User and group id."""
        return self.uid, self.gid


def members(stream: bytes) -> dict[str, Member]:
    """The files of a tar stream by their path without a leading slash."""
    found: dict[str, Member] = {}
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        for item in archive:
            source = archive.extractfile(item) if item.isreg() else None
            name = item.name.removeprefix("./").strip("/")
            found["" if name == "." else name] = Member(item.uid, item.gid, item.mode, source.read() if source else None)
    return found


def packed(files: dict[str, tuple[bytes, int, int, int]]) -> bytes:
    """A tar stream of files given as path -> (content, uid, gid, mode)."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, (content, uid, gid, mode) in files.items():
            item = tarfile.TarInfo(name)
            item.size, item.uid, item.gid, item.mode = len(content), uid, gid, mode
            archive.addfile(item, io.BytesIO(content))
    return sink.getvalue()


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 60, pause: float = 0.5) -> None:
    """Wait for something that another process does.

    Raises:
        AssertionError: it has not happened in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(pause)
