"""What boots a disk: the artefact of a format, firmware from the image tools tree, and its variables, with keys or without."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cofferdam.errors import HostError
from cofferdam.machine.cmdline import Firmware
from cofferdam.machine.facts import host_system
from cofferdam.machine.settings import BootSettings
from cofferdam.machine.tpm.sealing import check_key_size, check_options
from cofferdam.machine.tpm.server import program
from cofferdam.progress import Progress
from cofferdam.tools.failures import explained

# What builds needs Linux, and this module is read on other systems, too.
if TYPE_CHECKING:
    from cofferdam.image.model import Image
    from cofferdam.tools.tree import ToolsTree

_FIRMWARE = "usr/share/OVMF"
_PLAIN, _SECURE = "OVMF_CODE_4M.fd", "OVMF_CODE_4M.secboot.fd"
"""The plain one knows keys and enforces nothing."""

_VARIABLES = "OVMF_VARS_4M.fd"
_OWNER = uuid.UUID("c0ffe4da-0000-4000-8000-000000000002")


@dataclass(frozen=True)
class BootDisk:
    """A disk with firmware that starts it.

    Attributes:
        path: the disk.
        format: `raw`, `qcow2` or `vhdx`.
        tools: the image tools tree, which has the firmware.
        certificate: whose signature firmware asks for; none starts anything.
        swtpm: the words that start the TPM; none for a machine without.
    """

    path: Path
    format: str
    tools: ToolsTree
    certificate: Path | None = None
    swtpm: tuple[str, ...] = ()

    def note(self) -> str:
        """What the report says of it."""
        held = "which starts only what this key has signed" if self.certificate is not None else "which checks no signature"
        return f"booted from {self.path} by firmware, {held}"

    def begin(self, variables: Path) -> Firmware:
        """Make the variables of a boot anew: nothing that a guest wrote into them lives on.

        Args:
            variables: the file to write.

        Raises:
            BuildError: the certificate cannot be put into them.
        """
        home = self.tools.path / _FIRMWARE
        variables.unlink(missing_ok=True)
        if self.certificate is None:
            shutil.copyfile(home / _VARIABLES, variables)
        else:
            _enrol(self.certificate, variables, self.tools)
        variables.chmod(0o600)
        return Firmware(home / (_PLAIN if self.certificate is None else _SECURE), variables, self.certificate is not None)


def _enrol(certificate: Path, variables: Path, tools: ToolsTree) -> None:
    """Variables of firmware that trusts one certificate and no other: it may change keys, and sign what is started."""
    keys = [word for kind in ("--set-pk", "--add-kek", "--add-db") for word in (kind, str(_OWNER), "/cert.pem")]
    words = ["virt-fw-vars", "--input", f"/{_FIRMWARE}/{_VARIABLES}", "--output", f"/variables/{variables.name}"]
    binds = {variables.parent: "/variables", certificate.resolve(): "/cert.pem"}
    with explained("firmware variables"):
        tools.run([*words, *keys, "--secure-boot"], binds=binds, capture=True)


def boot_disk(settings: BootSettings, image: object, progress: Progress) -> BootDisk | None:
    """The disk that a boot asks for, made of its image when it is not in the cache; none for a direct boot.

    Raises:
        UsageError: a key for Secure Boot that cannot be used, or that has nothing to sign; a TPM that could measure nothing.
        HostError: this host is not Linux.
        BuildError: it cannot be made.
    """
    check_options(settings)
    if settings.format == "direct" and not (settings.secure_boot or settings.certificate):
        return None
    if host_system() != "linux":
        message = f"--format {settings.format}: disks are made, and booted by firmware, on Linux only"
        raise HostError(message, hint="Leave it out.")
    from cofferdam.image.formats import chosen_signer, make_artefact
    from cofferdam.tools.tree import ensure_image_tools

    signer = chosen_signer(settings.format, settings.secure_boot, str(settings.certificate or ""))
    if settings.tpm and signer is not None:
        check_key_size(signer.certificate)
    artefact = make_artefact(cast("Image", image), settings.format, progress, signer=signer)
    tools = ensure_image_tools(progress)
    swtpm = program(tools.path) if settings.tpm else ()
    return BootDisk(artefact.path, settings.format, tools, signer.certificate if signer else None, swtpm)
