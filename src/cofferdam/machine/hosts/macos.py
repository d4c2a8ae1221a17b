"""macOS: whether its Hypervisor framework can be used by QEMU and, if not, why."""

from __future__ import annotations

import sys

from cofferdam.run import CommandError, run

ENTITLEMENT = "com.apple.security.hypervisor"
_SECONDS = 20

# What can be missing: reason, next step.
LACKS = {
    "framework": ("macOS reports no Hypervisor framework (kern.hv_support is not 1)", "Use --accel tcg."),
    "entitlement": (
        f"this QEMU is not signed with {ENTITLEMENT}, and macOS refuses it the Hypervisor framework",
        "Install QEMU with Homebrew (brew install qemu), which signs it, or use --accel tcg.",
    ),
}


def lack(support: str, entitlements: str | None) -> str:
    """The key in `LACKS` of what is missing; empty when the framework can be used.

    Args:
        support: what `sysctl -n kern.hv_support` prints.
        entitlements: those of QEMU; none when nobody can tell, and then QEMU itself will.
    """
    if support.strip() != "1":
        return "framework"
    return "" if entitlements is None or ENTITLEMENT in entitlements else "entitlement"


def processor(reported: str, arm64: str) -> str:
    """The processor's architecture, also for a Python that runs under Rosetta.

    Args:
        reported: what Python says.
        arm64: what `sysctl -n hw.optional.arm64` prints; nothing on Intel.
    """
    return "arm64" if arm64.strip() == "1" else reported


def probe(binary: str) -> str:
    """Ask macOS what QEMU lacks here; a key in `LACKS`, or nothing."""
    return lack(sysctl("kern.hv_support"), _said(["codesign", "--display", "--entitlements", "-", "--xml", binary]))


def sysctl(name: str) -> str:
    """A value of the kernel; empty where there is none."""
    return _said(["sysctl", "-n", name]) or "" if sys.platform == "darwin" else ""


def _said(command: list[str]) -> str | None:
    try:
        return run(command, capture=True, timeout=_SECONDS).stdout
    except CommandError:
        return None
