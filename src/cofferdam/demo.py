"""The demonstration of `inv up`: one container on the booted VM prints the ids it is mapped to."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import docker.errors

from cofferdam.errors import BootError
from cofferdam.machine.door import Door, connect

IMAGE = "cofferdam/hello"
_APPLETS = ("sh", "cat", "ls", "id", "echo", "sleep", "ps", "mount", "umount", "wget", "uname", "true")


def busybox_layer(busybox: Path) -> bytes:
    """A root file system as a tar archive: the static busybox binary and links for a few of its programs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("root", 0o700)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        data = busybox.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(data), 0o755
        tar.addfile(entry, io.BytesIO(data))
        for name in _APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


def demonstrate(door: Door, busybox: Path) -> str:
    """Run a privileged container that prints its `/proc/self/uid_map`, and return that line.

    The image is imported from the busybox binary of the tools tree when the VM does not have it yet.

    Raises:
        BootError: the Docker API cannot be reached, or refuses.
    """
    try:
        client = connect(door)
        try:
            if not client.images.list(IMAGE):
                client.api.import_image_from_data(busybox_layer(busybox), repository=IMAGE, tag="latest")
            output = client.containers.run(IMAGE, ["cat", "/proc/self/uid_map"], privileged=True, remove=True)
        finally:
            client.close()
    except (docker.errors.DockerException, OSError) as error:
        raise BootError(f"the demonstration container did not run: {error}", hint="See `inv logs` and `inv status`.") from error
    return bytes(output).decode().strip("\n")
