"""Windows: whether its hypervisor can be used by QEMU and, if not, the one thing that is missing."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

OLDEST_BUILD = 19041
_SLAT, _FIRMWARE = 20, 21
"""PF_SECOND_LEVEL_ADDRESS_TRANSLATION and PF_VIRT_FIRMWARE_ENABLED of winnt.h."""
_HYPERVISOR_PRESENT = 0
"""WHvCapabilityCodeHypervisorPresent of WinHvPlatformDefs.h."""

ENABLE = "Enable-WindowsOptionalFeature -Online -FeatureName HypervisorPlatform -All"
DISM = "DISM /Online /Enable-Feature /FeatureName:HypervisorPlatform /All"

# What can be missing: reason, next step.
LACKS = {
    "build": (
        f"this Windows is older than build {OLDEST_BUILD} (Windows 10 2004), from which on QEMU uses its hypervisor",
        "Update Windows, or use --accel tcg.",
    ),
    "slat": (
        "this processor has no second level address translation (EPT or RVI), which Windows' hypervisor needs",
        "Use --accel tcg.",
    ),
    "firmware": (
        "virtualization is off in the firmware",
        "Turn on Intel VT-x or AMD-V (SVM) in the firmware's set-up and start Windows again.",
    ),
    "feature": (
        "the feature Windows Hypervisor Platform is off",
        f"In PowerShell as administrator: {ENABLE} (or: {DISM}), then restart Windows. Nothing else here needs an administrator.",
    ),
    "hypervisor": (
        "the feature Windows Hypervisor Platform is on, but its hypervisor does not run",
        "Restart Windows. If that does not help, as administrator: bcdedit /set hypervisorlaunchtype auto, and restart again.",
    ),
}


@dataclass(frozen=True)
class Virtualization:
    """What Windows tells about virtualization.

    Attributes:
        build: number of this Windows.
        library: WinHvPlatform.dll, which the feature brings, is there.
        running: the hypervisor runs.
        slat: second level address translation.
        firmware: virtualization is on in the firmware.
    """

    build: int
    library: bool
    running: bool
    slat: bool
    firmware: bool


def lack(found: Virtualization) -> str:
    """The key in `LACKS` of what is missing first; empty when the hypervisor can be used.

    The feature comes before the firmware: under a hypervisor, that of Windows' own protections included, Windows tells neither
    the firmware's setting nor the processor's features, and without the feature nobody tells whether one runs.
    """
    if found.build < OLDEST_BUILD:
        return "build"
    if not found.library:
        return "feature"
    if found.running:
        return ""
    return "hypervisor" if found.slat and found.firmware else "firmware" if found.slat else "slat"


def probe() -> Virtualization:
    """Ask Windows; on other systems there is nothing to use."""
    if sys.platform != "win32":
        return Virtualization(0, False, False, False, False)
    import ctypes

    library = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "WinHvPlatform.dll"
    present, written = ctypes.c_uint64(0), ctypes.c_uint32(0)
    if library.exists():
        # It fills in a BOOL; on an error nothing is filled in.
        ctypes.WinDLL(str(library)).WHvGetCapability(_HYPERVISOR_PRESENT, ctypes.byref(present), 8, ctypes.byref(written))
    feature = ctypes.windll.kernel32.IsProcessorFeaturePresent
    return Virtualization(
        build=sys.getwindowsversion().build,
        library=library.exists(),
        running=bool(present.value & 0xFFFFFFFF),
        slat=bool(feature(_SLAT)),
        firmware=bool(feature(_FIRMWARE)),
    )
