"""What the project itself puts into the root: overlays, the guest package, units and what starts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cofferdam.errors import BuildError
from cofferdam.paths import ROOT
from cofferdam.rootfs.compose import Entry
from cofferdam.template import render

ROOTFS = ROOT / "vm/rootfs"
GUEST = ROOT / "vm/guest"
PACKAGE_PATH = "usr/lib/python3/dist-packages/cofferdam_guest"
UNIT_PATH = "usr/lib/systemd/system"
_MASK_PATH = "etc/systemd/system"
POLICY_PATH = "etc/cofferdam/admin-settings.json"
_PROGRAMS = {"runc": "usr/bin/runc"}


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def overlay_entries(directory: Path, values: Mapping[str, object]) -> Iterator[Entry]:
    """Entries for the files below an overlay directory; `*.j2` are rendered with `values` and lose the suffix.

    Raises:
        BuildError: there is no such overlay, or a template names a value that is not given.
    """
    if not directory.is_dir():
        raise BuildError(f"there is no overlay {directory}", hint="Correct `overlays` in the profile.")
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            yield Entry(name, link=str(path.readlink()))
        elif path.is_dir():
            yield Entry(name, directory=True, mode=0o755)
        elif path.suffix == ".j2":
            yield Entry(name.removesuffix(".j2"), render(path, **values).encode(), _mode(path))
        else:
            yield Entry(name, path.read_bytes(), _mode(path))


def package_entries(directory: Path) -> Iterator[Entry]:
    """Entries for the guest package: sources and their compiled forms from a directory that holds both."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.suffix in {".py", ".pyc", ".json", ".toml"}:
            yield Entry(f"{PACKAGE_PATH}/{path.relative_to(directory).as_posix()}", path.read_bytes())


def program_entries(directory: Path, *, isolated: bool) -> Iterator[Entry]:
    """Entries for the guest's entry scripts.

    The OCI runtime takes every path at which dockerd, containerd and BuildKit find `runc`; without isolation the stock one stays.
    """
    for path in sorted(directory.iterdir()):
        if path.name == "runc" and not isolated:
            continue
        yield Entry(_PROGRAMS.get(path.name, f"usr/lib/cofferdam/{path.name}"), path.read_bytes(), 0o755)
    if isolated:
        yield Entry("usr/sbin/runc", link="../bin/runc")


def unit_entries(directory: Path, starts: list[str], masks: list[str]) -> Iterator[Entry]:
    """Entries for the units, the links that start units, and the masks.

    Raises:
        BuildError: a line of the list of starts is not `TARGET UNIT`.
    """
    for path in sorted(directory.iterdir()):
        yield Entry(f"{UNIT_PATH}/{path.name}", path.read_bytes())
    for line in starts:
        target, _, unit = line.partition(" ")
        if not unit or " " in unit:
            raise BuildError(f"units.list: `{line}` is not TARGET UNIT", hint="Correct the line.")
        yield Entry(f"{UNIT_PATH}/{target}.wants/{unit}", link=f"../{unit}")
    for unit in masks:
        yield Entry(f"{_MASK_PATH}/{unit}", link="/dev/null")
    yield Entry(f"{UNIT_PATH}/default.target", link="cofferdam.target")
