"""Binds, volumes and tmpfs, mounted here and not by crun.

The wrapper's mount namespace belongs to the VM's user namespace. When the container gets its copy the kernel locks every mount
in it: what is read-only stays so, what covers something cannot be taken away. A bind that crun makes inside is not locked.
Only below /dev, which crun mounts anew later, it has to be crun, with a prepared source; nothing can be read-only there.
"""

from __future__ import annotations

import os

from cofferdam_guest.below import is_below
from cofferdam_guest.linux import mountinfo, mounts, namespaces, paths
from cofferdam_guest.runtime import mountoptions
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers.dev import PATH as DEV
from cofferdam_guest.runtime.paths import STAGE
from cofferdam_guest.runtime.sources import SHARE_TYPE, Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

# type: where crun may mount it. A procfs anywhere else, or anything else on /proc, would be a procfs that crun trusts by mistake
KERNEL_TYPES = {"proc": ("/proc",), "sysfs": ("/sys",), "cgroup": ("/sys/fs/cgroup",), "cgroup2": ("/sys/fs/cgroup",)}
DEV_TYPES = ("tmpfs", "devpts", "mqueue")


def modify(spec: dict[str, Any], context: Context) -> None:
    """Mount what is the wrapper's, and leave the kernel's own file systems in the specification."""
    for entry in spec["mounts"]:
        # what is judged here and what crun gets must be the same
        entry["destination"] = os.path.normpath("/" + entry["destination"].lstrip("/"))
    user = (spec.get("process") or {}).get("user") or {}
    context.user = user.get("uid") or 0, user.get("gid") or 0
    opened = _open_sources(spec["mounts"], context)
    # read after every descriptor is open: each pins its mount, so that no mount's id can be another's by now
    context.mounts = mountinfo.read()
    plans: list[_Plan] = []
    left = []
    sources = Sources(context)
    for number, entry in enumerate(spec["mounts"]):
        destination = entry["destination"]
        if _is_bind(entry):
            if number not in opened:
                left.append(entry)
                continue
            plan = _Plan(context, sources, entry, destination, opened[number])
            if is_below(destination, "/dev"):
                left.append(plan.for_crun(context, number))
            else:
                plans.append(plan)
        elif entry["type"] == "tmpfs" and not any(is_below(destination, each) for each in ("/dev", "/proc", "/sys")):
            plans.append(_Plan(context, None, entry, destination, -1))
        else:
            left.append(_checked(entry, destination))
    _mount_all(plans, context)
    _seal_root(spec, context, left)
    spec["mounts"] = left


def _is_bind(entry: dict[str, Any]) -> bool:
    options = entry.get("options") or []
    return entry.get("type") == "bind" or "bind" in options or "rbind" in options


def _open_sources(entries: list[dict[str, Any]], context: Context) -> dict[int, int]:
    """Descriptors of the sources of all binds, by the number of their entry; our own /dev is not among them."""
    opened = {}
    for number, entry in enumerate(entries):
        if not _is_bind(entry) or (entry["destination"] == "/dev" and entry["source"] == DEV):
            continue
        try:
            opened[number] = mounts.open_path(os.path.join(context.bundle, entry["source"]))
        except OSError as error:
            raise Refusal("mount", f"can't mount {entry['source']}: {error.strerror}") from error
    return opened


class _Plan:
    """One mount to make: a detached mount, ready, and where it goes. `fd` is the source of a bind, which is closed here."""

    def __init__(self, context: Context, sources: Sources | None, entry: dict[str, Any], destination: str, fd: int) -> None:
        self.destination = destination
        self.entry = entry
        options = entry.get("options") or []
        if destination == "/" or is_below(destination, "/proc") or is_below(destination, "/sys"):
            raise Refusal("mount", f"can't mount on {entry['destination']}: it belongs to the container's own kernel view")
        if sources is None:
            attributes, own = mountoptions.tmpfs(options, context.base, context.settings.size)
            self.tree = mounts.create("tmpfs", own, attributes | mounts.ATTR_NODEV)
            self.directory = True
        else:
            self.attributes = mountoptions.flags(options) | mounts.ATTR_NOSUID | mounts.ATTR_NODEV
            self.tree, self.directory = self._clone(context, sources, fd)

    def _clone(self, context: Context, sources: Sources, fd: int) -> tuple[int, bool]:
        """Judge what was opened, and copy the mount of that very descriptor."""
        source = self.entry["source"]
        try:
            origin = mountinfo.origin(fd, context.mounts)
        except FileNotFoundError:
            origin = None  # in another mount namespace, or deleted: nobody's to give
        read_only = bool(self.attributes & mounts.ATTR_RDONLY)
        if origin is None or not sources.allows(origin, self.destination, read_only=read_only):
            raise Refusal("restricted-mount", f"can't mount {source} because it's configured as a restricted host mount")
        directory = os.fstat(fd).st_mode & 0o170000 == 0o040000
        tree = mounts.clone(fd)
        os.close(fd)
        shared = origin.mount.fstype == SHARE_TYPE
        self._dress(tree, origin.mount.fstype, context.share_userns() if shared else context.userns)
        return tree, directory

    def _dress(self, tree: int, fstype: str, userns: int) -> None:
        clear = mountoptions.atime_clear(self.attributes)
        try:
            mounts.set_attributes(tree, add=self.attributes, clear=clear, private=True, userns=userns)
        except OSError as error:
            reason = f"its file system ({fstype}) cannot be mapped to the container's ids: {error.strerror}"
            raise Refusal("mount", f"can't mount {self.entry['source']}: {reason}") from error

    def for_crun(self, context: Context, number: int) -> dict[str, Any]:
        """Mount the tree at a path of our own and return the entry that makes crun bind it from there."""
        if self.attributes & mounts.ATTR_RDONLY:
            where = f"{self.entry['source']} read-only on {self.destination}"
            raise Refusal("mount", f"can't mount {where}: below /dev it would not stay read-only")
        path = f"{STAGE}/bind-{number}"
        with_stage = os.open(STAGE, os.O_PATH | os.O_CLOEXEC)
        target = paths.ensure(with_stage, "/" + os.path.basename(path), directory=self.directory)
        os.close(with_stage)
        mounts.attach(self.tree, target)
        os.close(target)
        os.close(self.tree)
        return self.entry | {"source": path, "type": "bind", "options": ["bind", "rprivate", "nosuid", "nodev"]}


def _checked(entry: dict[str, Any], destination: str) -> dict[str, Any]:
    """Return an entry for one of the kernel's own file systems if it is where it belongs."""
    kind = entry["type"]
    proper = destination in KERNEL_TYPES.get(kind, ()) or (kind in DEV_TYPES and is_below(destination, "/dev"))
    if not proper and not (kind == "tmpfs" and is_below(destination, "/sys") and destination != "/sys"):
        raise Refusal("mount", f"can't mount a file system of type {kind} on {entry['destination']}")
    return entry


def _mount_all(plans: list[_Plan], context: Context) -> None:
    """In the order of the specification, so that what is nested comes out as dockerd meant it."""
    with paths.FileIds(context.base, context.base):
        for plan in plans:
            try:
                target = paths.ensure(context.rootfs, plan.destination, directory=plan.directory)
            except OSError as error:
                raise Refusal("mount", f"can't mount on {plan.destination}: {error.strerror}") from error
            if namespaces.identity(target) == namespaces.identity(context.rootfs):
                raise Refusal("mount", f"can't mount on {plan.destination}: it is the container's root itself")
            mounts.attach(plan.tree, target)
            os.close(target)
            os.close(plan.tree)


def _seal_root(spec: dict[str, Any], context: Context, left: list[dict[str, Any]]) -> None:
    """Make a read-only root so, after the mount points that crun will want in it."""
    if not context.read_only:
        return
    with paths.FileIds(context.base, context.base):
        for path in ("/proc", "/sys", "/dev", spec["process"]["cwd"]):
            try:
                os.close(paths.ensure(context.rootfs, path, directory=True))
            except OSError:
                continue  # something else is there: crun says so in its own words
    mounts.set_attributes(context.rootfs, add=mounts.ATTR_RDONLY)
