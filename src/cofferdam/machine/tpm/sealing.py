"""Whether a boot with or without a TPM fits its data disk, and the key that opens a sealed one without its TPM."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from cofferdam.errors import BootError, InstanceError, UsageError
from cofferdam.guestconfig import seal
from cofferdam.machine.dataformat import disk_format, luks_label
from cofferdam.machine.hostos import write_private
from cofferdam.machine.instance import Instance
from cofferdam.machine.settings import BootSettings

KEY_BITS = 2048
"""RSA keys of which the specification of TPMs for PCs says that each one can check a signature."""

_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){7}")
_SIGNED = "Boot a signed disk: `inv boot --tpm --format raw --secure-boot DIR`; `inv keys.new --secure-boot DIR` makes the key."


def check_options(settings: BootSettings) -> None:
    """Refuse options that contradict `--tpm` or do nothing without it.

    Raises:
        UsageError: they do.
    """
    if not settings.tpm:
        if settings.recovery_key is not None:
            raise UsageError("--recovery-key without --tpm", hint="Give both: the data disk is sealed to the TPM anew.")
        return
    if settings.format == "direct":
        text = "--tpm with a direct boot: QEMU hands over kernel and command line itself, and nothing measures them"
        raise UsageError(text, hint=_SIGNED)
    if not settings.secure_boot:
        text = "--tpm without --secure-boot: the data disk is sealed to what that key has signed, or no later image could open it"
        raise UsageError(text, hint=_SIGNED)


def check_key_size(certificate: Path) -> None:
    """Refuse a key whose signatures not every TPM can check.

    Raises:
        UsageError: it has more bits.
    """
    from cofferdam.image.signing import read_certificate

    public = read_certificate(certificate).public_key()
    if (bits := getattr(public, "key_size", 0)) != KEY_BITS:
        text = f"--tpm with the key of {certificate}, which has {bits} bits: not every TPM knows others than those of {KEY_BITS}"
        raise UsageError(text, hint="`inv keys.new --secure-boot DIR` makes one of that size.")


def key_to_hand_over(instance: Instance, settings: BootSettings) -> tuple[bytes | None, list[str]]:
    """The recovery key for the guest, when it is to make the data disk or to open it by that key; and what to tell.

    The caller holds the claim, and the instance does not run.

    Raises:
        InstanceError: the disk and the options do not fit each other, or the TPM's state is gone.
        UsageError: the file of a recovery key holds none.
    """
    label = luks_label(instance.data_disk)
    if not settings.tpm:
        if label is not None:
            refuse_without_tpm(instance)
        return None, []
    if label is None and disk_format(instance.data_disk) is not None:
        text = f"the data disk of instance `{instance.name}` is not sealed, and is not converted: {instance.data_disk}"
        hint = f"Boot it without --tpm, or another one with a data disk of its own: `inv boot --name OTHER --tpm …`; {_MOVE}"
        raise InstanceError(text, hint=hint)
    if settings.recovery_key is not None:
        return read_recovery_key(settings.recovery_key), ["the data disk is sealed to the TPM anew, by its recovery key"]
    if label in (None, seal.MAKING):
        key = _new_key(instance.recovery_key)
        return key, [f"the data disk is sealed to the TPM; what opens it without is in {instance.recovery_key}: {_KEEP}"]
    if not any(instance.tpm_state.glob("tpm2-*")):
        text = f"the data disk of instance `{instance.name}` is sealed to a TPM whose state is gone: {instance.tpm_state}"
        raise InstanceError(text, hint="`inv boot --tpm … --recovery-key FILE` opens the disk and seals it to a new TPM.")
    return None, []


_KEEP = "move that file to where this machine's disk is not"
_MOVE = "`docker save` and `docker load` move images."


def refuse_without_tpm(instance: Instance) -> None:
    """Raise for a sealed data disk that is to be booted without its TPM.

    Raises:
        InstanceError: always.
    """
    text = f"the data disk of instance `{instance.name}` is sealed to a TPM"
    hint = f"Boot it with one: `inv boot{instance.option} --tpm --format raw --secure-boot DIR`."
    raise InstanceError(text, hint=hint)


def require_sealed(instance: Instance, settings: BootSettings) -> None:
    """Refuse a guest that was given a TPM and has made a plain data disk all the same.

    Raises:
        BootError: it has.
    """
    if settings.tpm and luks_label(instance.data_disk) is None:
        text = f"the guest of instance `{instance.name}` has not sealed its data disk: its image is of before there was sealing"
        gone = f"`inv delete{instance.option} --data` (the disk is new, nothing of yours is on it)"
        raise BootError(text, hint=f"Boot a later image after {gone}, or this one without --tpm.")


def read_recovery_key(path: Path) -> bytes:
    """The key in a file.

    Raises:
        UsageError: the file cannot be read, or holds no key.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"--recovery-key {path}: {error}", hint="Name the file that the first boot has written.") from error
    if not _KEY.fullmatch(text):
        text = f"--recovery-key {path}: this is no recovery key, which is eight groups of eight hexadecimal digits"
        raise UsageError(text, hint="Name the file that the first boot has written.")
    return text.encode()


def _new_key(path: Path) -> bytes:
    """The key of a data disk that is yet to be made: that of a first boot that was killed, or a new one."""
    if path.exists():
        return read_recovery_key(path)
    digits = secrets.token_hex(32)
    text = "-".join(digits[start : start + 8] for start in range(0, len(digits), 8))
    write_private(path, text + "\n")
    return text.encode()
