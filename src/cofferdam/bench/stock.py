"""The peer of everyday figures: a stock Debian 13 root with docker.io, systemd, ssh and Debian's kernel as they come.

It boots from a writable ext4 image, waits for the network as Debian's units do, and tells the console when docker.service is up.
How it is run is in `cofferdam.bench.stockvm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cofferdam.cache import Stage, digest
from cofferdam.progress import Progress
from cofferdam.tools.bootstrap import bootstrap
from cofferdam.tools.tree import ToolsTree

SUITE = "trixie"
_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "docker.io",
    "iptables",
    "iproute2",
    "systemd-resolved",
    "kmod",
    "ca-certificates",
    "apparmor",
    "openssh-server",
    "linux-image-amd64",
    "initramfs-tools",
)
READY = "COFFERDAM-BENCH-DOCKER-READY"
"""What its console shows when docker.service is up."""
_UNIT = "\\n".join(
    [
        "[Unit]",
        "After=docker.service",
        "[Service]",
        "Type=oneshot",
        f'ExecStart=/bin/sh -c "echo {READY} >/dev/console"',
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
)
_NETWORK = "[Match]\\nName=e*\\n[Network]\\nDHCP=yes\\n"
# As the test images have it (docs/profiles.md), or the two would not be compared alike.
ENVIRONMENT = "Environment=GOGC=400"
_ENGINE = (
    'for unit in docker containerd; do mkdir -p "$1/etc/systemd/system/$unit.service.d"; '
    f"printf '[Service]\\n{ENVIRONMENT}\\n' >\"$1/etc/systemd/system/$unit.service.d/garbage.conf\"; done"
)
_HOOKS = (
    _ENGINE,
    f"printf '{_UNIT}' >\"$1/etc/systemd/system/bench-ready.service\"",
    f"printf '{_NETWORK}' >\"$1/etc/systemd/network/80-dhcp.network\"",
    "printf '/dev/vda / ext4 defaults 0 1\\n' >\"$1/etc/fstab\"",
    'chroot "$1" systemctl enable bench-ready systemd-networkd systemd-networkd-wait-online docker',
)
_ROOT, _KERNEL, _INITRD, _HOST_KEY = "root.ext4", "vmlinuz", "initrd.img", "ssh_host_ed25519_key.pub"
_KEPT = {_KERNEL: "boot/vmlinuz-*", _INITRD: "boot/initrd.img-*", _HOST_KEY: f"etc/ssh/{_HOST_KEY}"}
_DISK = "6G"


@dataclass(frozen=True)
class Stock:
    """The files of the stock Debian.

    Attributes:
        root: its root, an ext4 image whose size on disk is what it holds.
        kernel: Debian's kernel.
        initrd: what that kernel needs to find the root.
        host_key: public key of its ssh server.
    """

    root: Path
    kernel: Path
    initrd: Path
    host_key: Path


def stock_debian(tools: ToolsTree, progress: Progress) -> Stock:
    """The stock Debian, cached.

    Raises:
        BuildError: it cannot be made here.
    """
    stage = Stage("bench-stock", digest([SUITE, _PACKAGES, _HOOKS, _KEPT, _DISK, tools.key, 3]))

    def make(work: Path, log: Path) -> None:
        tar = work / "root.tar"
        bootstrap(SUITE, tar, log, variant="minbase", packages=_PACKAGES, hooks=_HOOKS)
        (work / "root").mkdir()
        for argv in (
            ["tar", "-xf", "/out/root.tar", "-C", "/out/root", "--exclude=./dev/*"],
            *(["sh", "-c", f"cp /out/root/{pattern} /out/{name}"] for name, pattern in _KEPT.items()),
            ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", "/out/root", f"/out/{_ROOT}", _DISK],
            ["rm", "-r", "/out/root", "/out/root.tar"],
        ):
            tools.run(argv, binds={work: "/out"}, log=log)

    directory = stage.build(make, progress, "Debian 13 with docker.io")
    return Stock(*(directory / name for name in (_ROOT, _KERNEL, _INITRD, _HOST_KEY)))
