"""The tools tree: a cached Debian tree that holds compilers and image tools, so that a build does not depend on the host.

It belongs to the user who made it, whatever ids its files had in Debian: to be run it needs a user namespace with one id and
no subordinate ones, and it can be removed like any directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cofferdam.cache import Stage, digest
from cofferdam.paths import ROOT, cache_home
from cofferdam.progress import Progress
from cofferdam.run import Result, run
from cofferdam.tools.debian import make_tree
from cofferdam.tools.failures import require_space
from cofferdam.tools.lists import read_list
from cofferdam.tools.lock import Pinned
from cofferdam.tools.packages import Contents, recorded

SUITE = "trixie"
PACKAGE_LIST = ROOT / "vm/tools/packages.list"
IMAGE_PACKAGE_LIST = ROOT / "vm/tools/image-packages.list"
_VERSION = 1
"""To be raised when this module makes the tree in another way."""

_SPACE_MIB = 3500
_IMAGE_SPACE_MIB = 1200
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

# apt has one id here and cannot drop to its own user.
_APT_CONF = 'APT::Sandbox::User "root";\nAPT::Install-Recommends "false";\nAcquire::Languages "none";\nAcquire::Retries "3";\n'

# Arguments: tree, working directory, then pairs of host path and path inside, `--`, and the command with its environment.
_ENTER = """
set -eu
PATH=$PATH:/usr/sbin:/sbin
tree=$1 directory=$2
shift 2
mount --rbind /proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mkdir -p "$tree$2"
    else
        mkdir -p "$(dirname "$tree$2")"
        [ -e "$tree$2" ] || : >"$tree$2"
    fi
    mount --rbind "$1" "$tree$2"
    shift 2
done
shift
exec chroot "$tree" /usr/bin/env --ignore-environment --chdir="$directory" "$@"
"""


@dataclass(frozen=True)
class ToolsTree:
    """A tools tree that is ready for use.

    Attributes:
        path: its root directory.
        key: hash of what it was made from.
    """

    path: Path
    key: str

    @property
    def contents(self) -> Contents | None:
        """The packages in it; none of a tree of earlier versions."""
        return recorded(self.path.parent)

    def run(
        self,
        argv: Sequence[str],
        *,
        binds: Mapping[Path, str] | None = None,
        cwd: str = "/",
        network: bool = False,
        log: Path | None = None,
        capture: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a program of the tree, as root of the tree.

        Args:
            argv: program and arguments.
            binds: host paths that are visible inside, each with its absolute path there.
            cwd: working directory inside.
            network: whether it may use the network; without, it has none.
            log: file that its output is appended to.
            capture: return its output.
            env: further variables; nothing else of this process's environment is passed on.

        Raises:
            CommandError: it ended with a status other than 0.
        """
        command = enter_arguments(self.path, argv, binds or {}, cwd, network=network, env=env or {}, uid=os.getuid())
        return run(command, log=log, capture=capture)


def enter_arguments(
    tree: Path, argv: Sequence[str], binds: Mapping[Path, str], cwd: str, *, network: bool, env: Mapping[str, str], uid: int
) -> list[str]:
    """The command that runs `argv` inside a tree, in its own mount namespace, and user namespace unless `uid` is root's."""
    variables = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", "TERM": "dumb", **env}
    paths = {**binds}
    if network:
        paths |= {Path("/etc/resolv.conf").resolve(): "/etc/resolv.conf"}
        variables |= {name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ}
    return [
        "unshare",
        "--mount",
        *(() if uid == 0 else ("--user", "--map-root-user")),
        *(() if network else ("--net",)),
        *("sh", "-c", _ENTER, "sh", str(tree), cwd),
        *(word for host, inside in paths.items() for word in (str(host), inside)),
        "--",
        *(f"{name}={value}" for name, value in variables.items()),
        *argv,
    ]


def ensure_tools(progress: Progress, pinned: Pinned | None = None) -> ToolsTree:
    """The tools tree for this version of the project, made when it is not in the cache.

    Args:
        progress: where to report.
        pinned: the lock that holds instead of what the suite offers.

    Raises:
        HostError, BuildError: it cannot be made here.
    """
    return _ensure("tools", PACKAGE_LIST, _SPACE_MIB, progress, pinned)


def ensure_image_tools(progress: Progress, pinned: Pinned | None = None) -> ToolsTree:
    """The tree with what makes disk images, and firmware; only those who make or boot one need it. See `ensure_tools`."""
    return _ensure("image-tools", IMAGE_PACKAGE_LIST, _IMAGE_SPACE_MIB, progress, pinned)


def _ensure(name: str, listed: Path, space: int, progress: Progress, pinned: Pinned | None) -> ToolsTree:
    packages = sorted(read_list(listed))
    stage = Stage(name, digest({"packages": packages, "suite": SUITE, "version": _VERSION}))
    stage = pinned.stage(stage) if pinned is not None else stage

    def make(work: Path, log: Path) -> None:
        require_space(cache_home(), space, f"{name.replace('-', ' ')} tree")
        archive, tree = work / "tree.tar", work / "tree"
        make_tree(SUITE, archive, log, variant="apt", packages=packages, pinned=pinned)
        tree.mkdir()
        run(["tar", "-xf", archive, "-C", tree, "--no-same-owner", "--exclude=./dev/*"], log=log)
        archive.unlink()
        (tree / "etc/apt/apt.conf.d/99cofferdam").write_text(_APT_CONF, encoding="utf-8")
        (tree / "etc/resolv.conf").unlink(missing_ok=True)
        (tree / "etc/resolv.conf").touch()

    path = stage.build(make, progress, f"Debian {SUITE}, {len(packages)} packages and what they need")
    return ToolsTree(path / "tree", stage.key)
