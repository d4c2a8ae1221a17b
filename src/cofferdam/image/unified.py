"""A unified kernel image: systemd's stub with kernel and command line in one EFI program, signed when there is a key."""

from __future__ import annotations

from pathlib import Path

from cofferdam.guestconfig import seal
from cofferdam.image.kernelline import sealed_command_line
from cofferdam.image.model import KERNEL, Image
from cofferdam.image.signing import Signer
from cofferdam.tools.failures import explained
from cofferdam.tools.tree import ToolsTree

EPOCH = 1735689600
"""The one time that is in anything made here, in seconds: 2025-01-01. FAT has no earlier one than 1980."""

STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_PROGRAM = "unified.efi"


def make_unified(image: Image, release: str, signer: Signer | None, tools: ToolsTree, work: Path, log: Path) -> Path:
    """Write the unified kernel image of an image with a verified root.

    Args:
        image: with `verity`.
        release: the kernel's, as `uname -r` prints it.
        signer: who signs it; none leaves it unsigned.
        tools: the image tools tree.
        work: directory for it and for what it is made from.
        log: file for the output.

    Raises:
        BuildError: it failed.
    """
    assert image.verity is not None
    words = [*image.cmdline, *image.verity.disk_words]
    # Signed and measured with all of it: what says whose signatures the guest takes for its data disk.
    words += [f"{seal.WORD}={signer.public_key_digest()}"] if signer is not None else []
    (work / "cmdline").write_text(sealed_command_line(words), encoding="ascii")
    (work / "os-release").write_text(_os_release(image.profile), encoding="utf-8")
    arguments = ["ukify", "build", f"--linux=/image/{KERNEL}", "--cmdline=@/work/cmdline", "--os-release=@/work/os-release"]
    arguments += [f"--uname={release}", f"--stub={STUB}", "--efi-arch=x64", f"--output=/work/{_PROGRAM}"]
    binds, env = {image.directory: "/image", work: "/work"}, {"SOURCE_DATE_EPOCH": str(EPOCH)}
    if signer is not None:
        arguments += signer.arguments()
        binds |= signer.binds()
        env |= signer.environment(EPOCH)
    with explained("unified kernel image", log):
        tools.run(arguments, binds=binds, env=env, log=log)
    return work / _PROGRAM


def _os_release(profile: str) -> str:
    return f'ID=cofferdam\nNAME="Cofferdam"\nPRETTY_NAME="Cofferdam ({profile})"\n'
