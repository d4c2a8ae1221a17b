"""Debian's docker-registry on 127.0.0.1, run straight from its package: the registry that releases are published to in the tests."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cofferdam.progress import Progress
from vmtest.images import build_images

PACKAGE = "docker-registry"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"

_SETTINGS = """version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {data}}}}}
http: {{addr: "127.0.0.1:{port}"{tls}}}
{auth}
"""


def registry_tree(directory: Path, progress: Progress) -> Path:
    """The package and its libraries, unpacked from the image that has them into a directory."""
    with tarfile.open(build_images(progress) / "registry.tar") as archive:
        layer = archive.extractfile("registry.layer")
        assert layer is not None
        with tarfile.open(fileobj=layer) as source:
            names = (f"./{_LIBRARIES}/", f"./usr/bin/{PACKAGE}")
            wanted = [each for each in source if each.name.startswith(names) and (each.isfile() or each.issym())]
            source.extractall(directory, wanted, filter="data")
    return directory


@contextmanager
def docker_registry(tree: Path, directory: Path, *, auth: str = "", tls: str = "") -> Iterator[str]:
    """A registry with its data in a directory; its `HOST:PORT`.

    `auth` and `tls` are lines of its configuration.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings, log = directory / "registry.yml", directory / "registry.log"
    settings.write_text(_SETTINGS.format(data=directory / "data", port=port, auth=auth, tls=tls))
    # Debian's own loader and libraries: this machine may have older ones.
    libraries = tree / _LIBRARIES
    words = [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, tree / "usr/bin" / PACKAGE, "serve", settings]
    with open(log, "wb") as sink:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
