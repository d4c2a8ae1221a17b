"""The kernel has what a Generation 2 virtual machine of Hyper-V needs, and no more: a list with reasons, held against the fragments."""

from __future__ import annotations

import pytest

from cofferdam.kernel.fragments import FRAGMENT_DIR, fragment_paths
from cofferdam.profile import load_profile, profile_names

# Hyper-V's part -> options.
NEEDED = {
    "to know where it runs": ("HYPERVISOR_GUEST", "PARAVIRT", "HYPERV"),
    "the bus of its devices": ("HYPERV_VMBUS", "ACPI", "PCI"),
    "disks": ("HYPERV_STORAGE", "SCSI", "SCSI_LOWLEVEL", "BLK_DEV_SD"),
    "the network card": ("HYPERV_NET", "NETDEVICES", "NET_CORE"),
    "memory that goes back": ("HYPERV_BALLOON",),
    "shutdown and clock by the host": ("HYPERV_UTILS", "CONNECTOR", "NLS"),
    "its firmware and the image on a partition": ("EFI", "EFI_STUB", "PARTITION_ADVANCED", "EFI_PARTITION"),
    "the console: a serial port, as there is no screen": ("SERIAL_8250", "SERIAL_8250_PNP", "SERIAL_8250_CONSOLE"),
}
# What Hyper-V has as well, and this machine has not, on purpose.
LEFT_OUT = {
    "HYPERV_VSOCKETS": "a channel to the hypervisor that no namespace confines",
    "FB_HYPERV": "no screen",
    "DRM_HYPERV": "no screen",
    "HYPERV_KEYBOARD": "no keyboard",
    "UIO_HV_GENERIC": "drivers in user space",
    "PCI_HYPERV": "no devices of the host are passed on",
    "BLK_DEV_SR": "no disc",
}


def options(profile: str) -> dict[str, str]:
    lines = [line for path in fragment_paths(load_profile(profile).kernel.fragments) for line in path.read_text().splitlines()]
    return dict(line.removeprefix("CONFIG_").split("=", 1) for line in lines if line.startswith("CONFIG_"))


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("part", NEEDED)
def test_every_kernel_has_what_hyper_v_asks_for(profile, part):
    chosen = options(profile)
    assert {option: chosen.get(option) for option in NEEDED[part]} == dict.fromkeys(NEEDED[part], "y")


@pytest.mark.parametrize("profile", profile_names())
def test_no_kernel_has_what_is_left_out(profile):
    assert options(profile).keys() & LEFT_OUT.keys() == set()


def test_no_other_option_of_hyper_vs_fragment_goes_unnamed():
    named = {option for group in NEEDED.values() for option in group}
    lines = (FRAGMENT_DIR / "hyperv.config").read_text().splitlines()
    assert {line.removeprefix("CONFIG_").split("=")[0] for line in lines if line.startswith("CONFIG_")} <= named
