"""The kernel's command line: what every machine of the project needs, and what the image adds; pure functions."""

from __future__ import annotations

from collections.abc import Sequence

GUEST_ADDRESS = "10.0.2.15"

# The image's words of the same key win.
_WORDS = (
    "root=/dev/vda",
    "ro",
    "rootfstype=erofs",
    f"ip={GUEST_ADDRESS}::10.0.2.2:255.255.255.0:cofferdam:eth0:off",
    "console=ttyS0",
    "panic=-1",
    # The processor's clock is the hypervisor's, which keeps it in step: no check against another one, which at times hangs
    # Linux 7.x (docs/adr/0018-clock-watchdog.md).
    "tsc=reliable",
    # The timer is there. Emulated on a busy host its ticks come late, and the kernel's test of it ends in a panic (same place).
    "no_timer_check",
)


def kernel_command_line(image_words: Sequence[str]) -> str:
    """Kernel parameters: those of every machine, less those whose key the image sets itself, then the image's."""
    own = {word.partition("=")[0] for word in image_words}
    own |= {"ro"} if "rw" in own else set()
    return " ".join([*(word for word in _WORDS if word.partition("=")[0] not in own), *image_words])


def sealed_command_line(image_words: Sequence[str]) -> str:
    """The command line of a unified kernel image: what firmware or boot menu append is no parameter of the kernel.

    What follows `--` goes to the first process, and systemd-stub appends what SMBIOS says, signed image or not. The kernel's
    early code for x86 does not know `--`: the few words that it looks up itself (`nokaslr`, `clearcpuid=`) count anywhere.
    """
    return f"{kernel_command_line(image_words)} --"
