"""Releases of a real image in versions that differ by a word for the kernel, and what an instance says that boots them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from cofferdam.demo import IMAGE, busybox_layer
from cofferdam.image.model import MANIFEST, RELEASED, Image, Manifest
from cofferdam.machine.door import Door, connect
from cofferdam.machine.instance import Instance
from cofferdam.machine.kept import read_kept
from cofferdam.progress import Progress
from cofferdam.release.folder import Built, assemble
from cofferdam.release.keys import load_signing_key, new_signing_key
from cofferdam.tools.tree import ensure_tools
from vmtest.releases import COMMIT, EPOCH
from vmtest.verbs import row

WORDS = {"1.0.0": [], "1.1.0": ["cofferdam.release=1.1.0"], "1.2.0": ["init=/nonexistent"]}
"""Versions, and what the kernel is told in addition: the last one does not get as far as user space."""


class Shop:
    """Who makes the releases."""

    def __init__(self, home: Path, image: Image) -> None:
        self.home, self.image = home, image
        private, _, self.signers = new_signing_key(home / "keys")
        self.key = load_signing_key(private)

    def release(self, version: str) -> Path:
        image = self.image
        manifest = Manifest.model_validate_json(image.manifest.read_bytes())
        changed = manifest.model_copy(update={"cmdline": [*manifest.cmdline, *WORDS[version]]})
        path = self.home / "direct.tar"
        with tarfile.open(path, "w") as tar:
            for name in RELEASED:
                if name == MANIFEST:
                    data = changed.model_dump_json().encode()
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
                elif (image.directory / name).exists():
                    tar.add(image.directory / name, name)
        built = [Built(path, image.profile, "direct", manifest.kernel.version)]
        target = self.home / version
        images = {image.profile: image}
        return assemble(target, version=version, commit=COMMIT, epoch=EPOCH, built=built, images=images, key=self.key)


def docker(name: str, *words: str) -> str:
    """Run a program in a container of an instance that has the volume /data."""
    found = row(name)
    client = connect(Door(found["docker_host"], Path(found["cert_path"])))
    try:
        if not client.images.list(IMAGE):
            busybox = ensure_tools(Progress(quiet=True)).path / "usr/bin/busybox"
            client.api.import_image_from_data(busybox_layer(busybox), repository=IMAGE, tag="latest")
        volumes = {"kept": {"bind": "/data", "mode": "rw"}}
        return bytes(client.containers.run(IMAGE, ["busybox", *words], volumes=volumes, remove=True)).decode().strip()
    finally:
        client.close()


def versions(name: str) -> tuple[str, str, str]:
    """Version that is booted, the one before, and how far the latest update is."""
    found = read_kept(Instance(name))
    assert found.current is not None
    return found.current.version, found.former.version if found.former else "", found.update.step if found.update else ""
