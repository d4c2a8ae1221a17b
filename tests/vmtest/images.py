"""Images of the containers under test, made of Debian packages and brought into a VM as a docker archive.

`busybox` is one static program and its links, `debian` a small tree with Python and util-linux, `dind` that tree and an engine on top,
`registry` Debian's docker-registry and the libraries it needs, `buildkit` stands for BuildKit's own image: `dind` with the BuildKit
that is part of dockerd, by the names under which buildx looks for it.

An archive has the layers of its own kind alone; those below are in the VM already, as the layers of the kind that it needs.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from cofferdam.cache import Stage, digest, file_digest
from cofferdam.progress import Progress
from cofferdam.tools.bootstrap import bootstrap

SUITE = "trixie"
DEBIAN = ("busybox-static", "iproute2", "libpython3-stdlib", "mount", "procps", "python3-minimal")
ENGINE = ("docker.io", "docker-cli", "iptables")
REGISTRY = ("docker-registry",)
NEEDS = {"dind": "debian", "buildkit": "dind"}
"""Which image has to be in a VM before."""

KINDS = ("busybox", "debian", "dind", "registry", "buildkit")
_BUILDKIT = Path(__file__).with_name("buildkit")
_VERSION = 5
_APPLETS = "etc/busybox.applets"
_LIST_APPLETS = f'chroot "$1" busybox --list >"$1/{_APPLETS}"'
_NO_START = 'printf \'#!/bin/sh\\nexit 101\\n\' >"$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d"'

_REGISTRY_SETTINGS = b"""version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: /registry}, delete: {enabled: true}}
http: {addr: ":5000"}
"""

# What no test needs: the fewer bytes, the sooner an emulated machine has unpacked them.
_LEFT_OUT = re.compile(
    r"^\./(dev/.+|usr/lib/x86_64-linux-gnu/(gconv|perl|krb5|security|sasl2|engines-3|ossl-modules|libdb-|libsqlite3|libkrb5|libmvec)"
    r"|usr/bin/perl|usr/share/(perl|zoneinfo|bash-completion|common-licenses|python3)|usr/sbin/(tc|ldconfig)$|usr/lib/udev"
    r"|usr/lib/python3\.\d+/(test|unittest|idlelib|pydoc_data|ensurepip|asyncio|lib2to3|email|http|xml|sqlite3|multiprocessing)"
    r"|usr/lib/(systemd|apparmor)|usr/bin/(ctr|containerd-shim|containerd-shim-runc-v1|dockerd-rootless.*)$"
    r"|var/(cache|lib/(dpkg|apt|pam|systemd))/.+|etc/(docker|containerd|perl|rc.\.d|init\.d|cron\.\w+)/.+)"
)


def reference(kind: str) -> str:
    """Name of a test image in every VM."""
    return f"cofferdam-test/{kind}:latest"


def build_images(progress: Progress) -> Path:
    """Directory with one docker archive for each kind, from the cache or made now."""
    parts = {
        "debian": DEBIAN,
        "engine": ENGINE,
        "registry": REGISTRY,
        "buildkit": {path.name: path.read_text() for path in _scripts()},
        "left out": _LEFT_OUT.pattern,
        "suite": SUITE,
        "version": _VERSION,
    }

    def make(work: Path, log: Path) -> None:
        hooks = (_NO_START, _LIST_APPLETS)
        small, large, served = work / "small.tar", work / "large.tar", work / "served.tar"
        bootstrap(SUITE, small, log, variant="essential", packages=DEBIAN, hooks=hooks)
        bootstrap(SUITE, large, log, variant="essential", packages=[*DEBIAN, *ENGINE], hooks=hooks)
        bootstrap(SUITE, served, log, variant="extract", packages=REGISTRY)
        base = _write_layer(work / "debian.layer", _members(small))
        top = _write_layer(work / "dind.layer", _members(large, without=_identities(small)))
        busy = _write_layer(work / "busybox.layer", _busybox(small))
        registry = _write_layer(work / "registry.layer", [*_members(served), *_extra()])
        builder = _write_layer(work / "buildkit.layer", _buildkit(busy))
        kinds = {
            "busybox": [busy],
            "debian": [base],
            "dind": [base, top],
            "registry": [registry],
            "buildkit": [base, top, builder],
        }
        for kind, layers in kinds.items():
            below = kinds[NEEDS[kind]] if kind in NEEDS else []
            entrypoint = ["buildkitd"] if kind == "buildkit" else []
            _write_archive(work / f"{kind}.tar", reference(kind), layers, entrypoint, without=below)
        for path in (small, large, served, base, top, busy, registry, builder):
            path.unlink()

    return Stage("test-images", digest(parts)).build(make, progress, ", ".join(KINDS))


Entry = tuple[tarfile.TarInfo, bytes | None]


def _identity(member: tarfile.TarInfo) -> tuple[object, ...]:
    size = None if member.isdir() else member.size
    return member.name, member.type, member.mode, size, member.linkname


def _identities(archive: Path) -> frozenset[tuple[object, ...]]:
    with tarfile.open(archive) as source:
        return frozenset(map(_identity, source))


def _members(archive: Path, without: frozenset[tuple[object, ...]] = frozenset()) -> Iterator[Entry]:
    """The files of a tree, less what is left out, compiled Python, and what a lower layer has."""
    with tarfile.open(archive) as source:
        for member in source:
            if _LEFT_OUT.match(member.name) or _identity(member) in without:
                continue
            file = source.extractfile(member) if member.isreg() else None
            yield member, file.read() if file else None


def _extra() -> Iterator[Entry]:
    """What a tree of unpacked packages lacks: the links of base-files, and the registry's settings."""
    for name in ("lib", "lib64"):
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
        yield link, None
    entry = tarfile.TarInfo("registry.yml")
    entry.mode, entry.size = 0o644, len(_REGISTRY_SETTINGS)
    yield entry, _REGISTRY_SETTINGS


def _scripts() -> list[Path]:
    return sorted(path for path in _BUILDKIT.iterdir() if path.is_file())


def _buildkit(busybox: Path) -> Iterator[Entry]:
    """The two programs that buildx calls, and a root file system to build from where there is no registry."""
    for path in _scripts():
        program = tarfile.TarInfo(f"usr/local/bin/{path.name}")
        program.mode, program.size = 0o755, path.stat().st_size
        yield program, path.read_bytes()
    tree = tarfile.TarInfo("opt/busybox.tar")
    tree.mode, tree.size = 0o644, busybox.stat().st_size
    yield tree, busybox.read_bytes()


def _busybox(archive: Path) -> Iterator[Entry]:
    for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755)):
        directory = tarfile.TarInfo(name)
        directory.type, directory.mode = tarfile.DIRTYPE, mode
        yield directory, None
    with tarfile.open(archive) as source:
        program = source.extractfile("./usr/bin/busybox")
        applets = source.extractfile(f"./{_APPLETS}")
        assert program and applets
        data, names = program.read(), applets.read().decode().split()
    binary = tarfile.TarInfo("bin/busybox")
    binary.mode, binary.size = 0o755, len(data)
    yield binary, data
    for name, text in (("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")):
        file = tarfile.TarInfo(name)
        file.mode, file.size = 0o644, len(text)
        yield file, text.encode()
    for name in sorted(set(names) - {"busybox"}):
        link = tarfile.TarInfo(f"bin/{name}")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        yield link, None


def _write_layer(path: Path, entries: Iterable[Entry]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as sink:
        for member, data in entries:
            sink.addfile(member, io.BytesIO(data) if data is not None else None)
    return path


def _write_archive(path: Path, name: str, layers: list[Path], entrypoint: list[str], *, without: list[Path]) -> None:
    """A docker archive, as `docker load` takes it; which looks for a layer's file only when it does not have the layer."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                **({"Entrypoint": entrypoint} if entrypoint else {"Cmd": ["sh"]}),
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{file_digest(layer)}" for layer in layers]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [layer.name for layer in layers]}]
    with tarfile.open(path, "w") as sink:
        for file, data in ((config_name, config), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            sink.addfile(entry, io.BytesIO(data))
        for layer in layers[len(without) :]:
            sink.add(layer, layer.name)
