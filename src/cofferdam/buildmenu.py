"""The part of the menu that is about building, and what a boot's options say of the formats; `tasks.py` takes it in."""

from __future__ import annotations

from typing import Any

from invoke.context import Context
from invoke.tasks import task

from cofferdam.menu import JSON, PROFILE, QUIET, verb, working

_FORMAT = "raw, qcow2 or vhdx: a disk for firmware; or direct: kernel and root"
_KEYS = {
    "secure-boot": "key that signs the disk: a directory of `inv keys.new --secure-boot`, a file (PEM), or a PKCS#11 URI",
    "certificate": "certificate of that key (PEM); not needed with a directory",
}
BOOT_FORMAT = {
    "format": f"{_FORMAT}, the default",
    **_KEYS,
    "tpm": "with a signed disk: a TPM measures the boot, and a new data disk is sealed to it",
    "recovery-key": "with --tpm: file of the key that opens a sealed data disk without its TPM; it is sealed to the present one",
}

_BUILD = {
    "profile": PROFILE,
    "refresh": "ask the suites for newer packages and a newer kernel",
    "locked": "from the packages in vm/lock and no others",
    "check-reproducible": "build twice and compare: all, or root, which leaves the kernel out",
    "packages": "with --locked: a directory of `inv lock --keep`, in the place of the suites",
    "json": JSON,
    "quiet": QUIET,
    "format": f"as one file as well: {_FORMAT}",
    **_KEYS,
}


@task(help=_BUILD)
@working
@verb
def build_vm(
    _: Context,
    profile: str = "default",
    refresh: bool = False,
    json: bool = False,
    locked: bool = False,
    packages: str = "",
    check_reproducible: str = "",
    format: str = "",
    secure_boot: str = "",
    certificate: str = "",
) -> None:
    """Build the VM image of a profile; does nothing when nothing has changed.  Example: inv build-vm --profile debug"""
    from cofferdam import verbs

    options: dict[str, Any] = {"locked": locked, "packages": packages, "reproducible": check_reproducible}
    options |= {"format": format, "secure_boot": secure_boot, "certificate": certificate}
    verbs.build(profile, refresh=refresh, as_json=json, **options)
