"""The root file system image: base, less what is not needed, plus what is ours, as a read-only EROFS."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from cofferdam.cache import Stage, digest, remove_tree, tree_digest
from cofferdam.errors import BuildError
from cofferdam.guestconfig import shares
from cofferdam.paths import cache_home
from cofferdam.policy import profile_policy
from cofferdam.profile import Profile
from cofferdam.progress import Progress
from cofferdam.rootfs.base import Base
from cofferdam.rootfs.compose import Entry, compose
from cofferdam.rootfs.entries import GUEST, POLICY_PATH, ROOTFS, overlay_entries, package_entries, program_entries, unit_entries
from cofferdam.rootfs.keys import make_key, ssh_entries, write_private
from cofferdam.tools.failures import explained, require_space
from cofferdam.tools.lists import read_list
from cofferdam.tools.tree import ToolsTree

_VERSION = 3
"""To be raised when this module makes the image in another way."""

_SPACE_MIB = 1000
_PACKAGE = GUEST / "src/cofferdam_guest"
_LINKS = ["usr/lib/systemd/system/*.wants", "etc/systemd/system/*.wants"]
_UUID = "c0ffe4da-0000-4000-8000-000000000001"
_CLUSTER = 32768
"""Bytes per compressed piece: twice as many save 2 %, and every page fault then reads and unpacks twice as much."""


@dataclass(frozen=True)
class Root:
    """A finished root file system.

    Attributes:
        image: the EROFS file.
        ssh_key: private key for the debug profile's ssh, none on others.
        ssh_host_key: public key of the image's ssh server, in a line, none on others.
        key: hash of what it was made from.
    """

    image: Path
    ssh_key: Path | None
    ssh_host_key: Path | None
    key: str


def own_entries(profile: Profile) -> list[Entry]:
    """Everything of the project that goes into the root of this profile, except the guest package and secrets.

    Raises:
        BuildError: an overlay or a list does not fit.
        PolicyFileError: the profile's policy is not there, or has errors.
    """
    isolated = profile.isolation != "none"
    values = {"isolation": profile.isolation, "ssh": profile.ssh, "profile": profile.name}
    return [
        Entry("var", directory=True),
        *(Entry(root.lstrip("/"), directory=True) for root in shares.ROOTS),
        *(entry for name in profile.overlays for entry in overlay_entries(ROOTFS / "overlay" / name, values)),
        *program_entries(GUEST / "bin", isolated=isolated),
        Entry(POLICY_PATH, profile_policy(profile).data),
        *unit_entries(GUEST / "systemd", read_list(ROOTFS / "units.list"), read_list(ROOTFS / "masks.list")),
    ]


def removal_patterns(profile: Profile) -> list[str]:
    """What of the base is left out: the lists of the profile's topics that have one, and every link that starts a unit.

    A line `!PATTERN` takes back a pattern of another list.
    """
    lists = (ROOTFS / f"remove/{topic}.list" for topic in profile.packages)
    lines = [line for path in lists if path.exists() for line in read_list(path)]
    return [line for line in lines if not line.startswith("!") and f"!{line}" not in lines] + _LINKS


def entries_digest(entries: Sequence[Entry]) -> str:
    """SHA-256 over entries."""
    return digest([{**asdict(entry), "data": sha256(entry.data).hexdigest()} for entry in entries])


def build_root(profile: Profile, tools: ToolsTree, base: Base, progress: Progress) -> Root:
    """The root image for a profile, from the cache or composed from the base.

    Raises:
        BuildError: lists, overlays and base do not fit each other, or a tool failed.
    """
    entries, patterns = own_entries(profile), removal_patterns(profile)
    inputs = {
        "base": base.key,
        "tools": tools.key,
        "entries": entries_digest(entries),
        "guest": tree_digest(_PACKAGE),
        "remove": patterns,
        "compression": profile.root.compression,
        "ssh": profile.ssh,
        "version": _VERSION,
    }
    stage = Stage("root", digest(inputs))

    def make(work: Path, log: Path) -> None:
        require_space(cache_home(), _SPACE_MIB, "root file system")
        entries.extend(compiled_package(work / "guest", tools, base.archive, log))
        if profile.ssh:
            entries.extend(_ssh(work))
        progress.step("composing the root file system")
        compose(base.archive, work / "root.tar", patterns, entries)
        progress.step("packing the root file system")
        with explained("root file system", log):
            tools.run(erofs_arguments(profile.root.compression), binds={work: "/work"}, log=log)
        (work / "root.tar").unlink()
        if profile.ssh:
            # it holds the private host key
            (work / "root.erofs").chmod(0o600)

    path = stage.build(make, progress, f"profile {profile.name}")
    image = path / "root.erofs"
    if not profile.ssh:
        return Root(image, None, None, stage.key)
    return Root(image, path / "ssh_key", path / "ssh_host_key.pub", stage.key)


def erofs_arguments(compression: str) -> list[str]:
    """Arguments of mkfs.erofs inside the tools tree, for /work/root.tar; the same input gives the same bytes."""
    packing = [f"-z{compression}", f"-C{_CLUSTER}"] if compression != "none" else []
    return ["mkfs.erofs", "--quiet", "--tar=f", *packing, "-T0", "--all-time", "-U", _UUID, "/work/root.erofs", "/work/root.tar"]


def compiled_package(work: Path, tools: ToolsTree, archive: Path, log: Path) -> list[Entry]:
    """Entries of the guest package with its byte code, made by the tools tree's Python, which is that of the image's suite.

    Raises:
        BuildError: its byte code is not that of the Python in the image.
    """
    package = work / "cofferdam_guest"
    for path in sorted(_PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = package / path.relative_to(_PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    compiler = ["python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    names = ["-s", "/work", "-p", "/usr/lib/python3/dist-packages"]
    tools.run([*compiler, *names, "/work/cofferdam_guest"], binds={work: "/work"}, log=log)
    ours = next(package.rglob("*.pyc")).read_bytes()[:4]
    if ours != bytecode_magic(archive):
        raise BuildError(
            "the tools tree's Python and the image's make different byte code",
            hint="Remove the directory `tools` in the cache and run the command again: the tree is older than the packages.",
        )
    entries = list(package_entries(package))
    remove_tree(work)
    return entries


def bytecode_magic(archive: Path) -> bytes:
    """The first four bytes of compiled Python files in a base, which name the byte code's version.

    Raises:
        BuildError: it holds none.
    """
    with tarfile.open(archive, "r:") as source:
        for member in source:
            if member.isreg() and member.name.endswith(".pyc") and (data := source.extractfile(member)) is not None:
                return data.read(4)
    raise BuildError("the base holds no compiled Python", hint="`base.list` must name python3-minimal.")


def _ssh(work: Path) -> list[Entry]:
    host, user = make_key("cofferdam"), make_key("cofferdam-tests")
    write_private(work / "ssh_key", user.private)
    (work / "ssh_host_key.pub").write_bytes(host.public + b"\n")
    return ssh_entries(host, user)
