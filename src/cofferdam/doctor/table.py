"""The requirements of the host, one row each, in the order in which they are mended. git is not among them: nothing needs it."""

from __future__ import annotations

from cofferdam.doctor import network, programs, space, system
from cofferdam.doctor.model import LINUX, Requirement
from cofferdam.paths import cache_home, state_home

_OTHER_CACHE = f"Set {space.CACHE} to another directory."
_OTHER_STATE = f"Set {space.STATE} to another directory."
_NO_DOCKER = (
    "Install Docker's command line client, or use the DOCKER_HOST lines of `inv status` with any other; "
    "the tools tree holds one that runs from there."
)
_EMULATE = "Boot with `--accel tcg`: everything works, more slowly."

REQUIREMENTS = (
    Requirement("python", "runs this project", system.python, advice="Install Python 3.11 or later."),
    Requirement("build-host", "builds images", system.build_host, advice="Use an x86_64 machine with Linux."),
    Requirement(
        "mmdebstrap", "makes Debian trees", programs.program("mmdebstrap", "--version"), packages=("mmdebstrap",), systems=LINUX
    ),
    Requirement("keyring", "proves Debian's packages", system.keyring, packages=("debian-archive-keyring",), systems=LINUX),
    Requirement(
        "gpg",
        "lets mmdebstrap find the keyring where apt does not trust it",
        programs.program("gpg", "--version"),
        packages=("gpg",),
        worst="warn",
        systems=LINUX,
    ),
    Requirement(
        "unshare", "enters the tools tree", programs.program("unshare", "--version"), packages=("util-linux",), systems=LINUX
    ),
    Requirement(
        "namespaces", "keep builds apart from the host", system.namespaces, advice="Allow user namespaces.", systems=LINUX
    ),
    Requirement("newuidmap", "builds without root", system.newuidmap, packages=("uidmap",), systems=LINUX),
    Requirement("subordinate-ids", "build without root", system.subordinate_ids, advice="Build as root.", systems=LINUX),
    Requirement("cache-path", "builds without root", space.reachable, advice=_OTHER_CACHE, systems=LINUX),
    Requirement("cache-directory", "holds what was built", space.writable(cache_home, space.CACHE), advice=_OTHER_CACHE),
    Requirement("cache-space", "holds what was built", space.cache_space, advice=_OTHER_CACHE),
    Requirement("state-directory", "holds instances", space.writable(state_home, space.STATE), advice=_OTHER_STATE),
    Requirement("state-space", "holds data disks", space.state_space, advice=_OTHER_STATE),
    Requirement("qemu", "runs the VM", programs.qemu, packages=("qemu-system-x86",)),
    Requirement("accelerator", "makes the VM fast", programs.accelerator, advice="Reinstall QEMU."),
    Requirement(
        "whpx", "Windows' hypervisor, for QEMU", programs.hypervisor("whpx"), advice=_EMULATE, worst="warn", systems=("win32",)
    ),
    Requirement(
        "hvf", "macOS' hypervisor, for QEMU", programs.hypervisor("hvf"), advice=_EMULATE, worst="warn", systems=("darwin",)
    ),
    Requirement(
        "virtiofsd", "shares directories", programs.virtiofsd, advice="Boot with `--share none`.", worst="warn", systems=LINUX
    ),
    Requirement(
        "memory",
        "the VM's, and the build's",
        system.memory,
        advice="Close programs, or boot with less: `inv boot --memory 1G`.",
        worst="warn",
        systems=LINUX,
    ),
    Requirement(
        "ssh",
        "debug images only",
        programs.program("ssh", "-V"),
        packages=("openssh-client",),
        worst="warn",
    ),
    Requirement("docker", "talks to the VM", programs.program("docker", "--version"), advice=_NO_DOCKER, worst="warn"),
    Requirement(
        "docker-context",
        "names the VM for docker",
        network.docker_contexts,
        advice="See `inv status`.",
        worst="warn",
    ),
    Requirement("ports", "lead to the VM", network.ports, advice="Close programs that hold many connections."),
    Requirement(
        "dns",
        "resolves names, in the VM as well",
        network.resolver,
        advice="Check the network.",
        worst="warn",
        systems=("linux", "darwin"),
    ),
    Requirement("proxy", "the way out, where there is one", network.proxies, advice="Correct the variables.", worst="warn"),
    Requirement(
        "clock", "signatures, certificates", system.clock, advice="Set the clock: `sudo timedatectl set-ntp true`.", worst="warn"
    ),
)
