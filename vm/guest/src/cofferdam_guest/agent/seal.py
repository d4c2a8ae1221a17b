"""The encryption of the data disk: made on the first boot with a TPM, opened by it on later ones; a disk that is encrypted is
never written over.

The key is sealed to what firmware says of Secure Boot (PCR 7) and to a signature over what the stub measured of the image (PCR
11). The signature and its public key lie on the boot disk, where anybody could write them: the key's hash stands on the signed
command line, which is measured itself, and a signature is worth what its key is.
"""

import os
from collections.abc import Callable

from cofferdam_guest.agent.programs import DiskError, call
from cofferdam_guest.config import dataformat, seal

TPM = "/dev/tpmrm0"
NAME = "cofferdam-data"
MAPPED = f"/dev/mapper/{NAME}"
COMMAND_LINE = "/proc/cmdline"
BLOCKS = "/sys/class/block"
KEY = f"/run/credentials/@system/cofferdam.{seal.CREDENTIAL}"
DRAFT = "/run/cofferdam-seal.draft"
SIGNATURE, PUBLIC_KEY = "/run/systemd/tpm2-pcr-signature.json", "/run/systemd/tpm2-pcr-public-key.pem"
"""Where systemd's programs look for them."""

LOCKS = "/run/cryptsetup"
HEADER = 16 * 2**20
"""Bytes before the encrypted data: LUKS2's usual ones."""

CRYPTSETUP, ENROLL = "/usr/sbin/cryptsetup", "/usr/bin/systemd-cryptenroll"
_FIRST = 4096
_LARGEST_PART = 64 * 2**10
# A random key of 256 bits gains nothing by being stretched.
_FORMAT = ("--type", "luks2", "--label", seal.MAKING, "--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", "4096")
_UNSTRETCHED = ("--hash", "sha256", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
_OPEN = ("open", "--type", "luks2", "--allow-discards")
_TOKEN = ("--token-only", "--token-type", "systemd-tpm2")
_RECOVER = "`inv boot --tpm --recovery-key FILE` opens it by its recovery key and seals it anew"


def signer() -> str | None:
    """The hash of the public key that the signed part of the command line names; None when the image is not signed, or there is
    no TPM that has measured it.
    """
    if not os.path.exists(TPM):
        return None
    with open(COMMAND_LINE, encoding="ascii", errors="replace") as source:
        words = source.read().split()
    # What follows `--` firmware and hypervisor may have appended.
    signed = words[: words.index("--")] if "--" in words else []
    return next((word.partition("=")[2] for word in signed if word.startswith(f"{seal.WORD}=")), None)


def provide(digest: str) -> None:
    """Put public key and signature of the boot disk where they are looked for.

    Args:
        digest: what the public key has to have as SHA-256.

    Raises:
        DiskError: they are not there, or are not those of the signed command line.
    """
    # Every boot loads this module, and OpenSSL's library is as large as all that a boot without a TPM reads here.
    import hashlib
    import json

    try:
        with open(_partition(), "rb") as disk:
            found = json.loads(disk.read(_LARGEST_PART).rstrip(b"\0"))
        key = found["public_key"].encode()
        signature = json.dumps(found["signature"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DiskError(f"the boot disk's signature for the TPM cannot be read ({error})") from error
    if hashlib.sha256(key).hexdigest() != digest:
        raise DiskError("the boot disk's key for the TPM is not the one that its signed command line names")
    os.makedirs(os.path.dirname(SIGNATURE), exist_ok=True)
    os.makedirs(LOCKS, 0o700, exist_ok=True)
    for path, content in ((PUBLIC_KEY, key), (SIGNATURE, signature.encode())):
        with open(path, "wb") as target:
            target.write(content)


def _partition() -> str:
    for name in os.listdir(BLOCKS):
        with open(f"{BLOCKS}/{name}/uevent", encoding="utf-8", errors="replace") as source:
            if f"PARTNAME={seal.PARTITION}" in source.read().split("\n"):
                return f"/dev/{name}"
    raise OSError(f"there is no partition {seal.PARTITION}")


def unlock(device: str, format_inside: Callable[[str], None], *, blank: bool) -> str:
    """The device that holds the file system: the disk itself, or what is decrypted of it.

    Args:
        device: the disk.
        format_inside: makes the file system on a device.
        blank: whether the disk holds nothing at all.

    Raises:
        DiskError: a disk that has to be sealed is not, or one that is sealed cannot be opened; nothing was written then.
    """
    with open(device, "rb") as disk:
        label = seal.luks_label(disk.read(seal.HEAD_BYTES))
    digest = signer()
    if digest is None:
        if label is not None:
            why = "this machine has none that measured a signed image; nothing was written"
            raise DiskError(f"the data disk is sealed to a TPM, and {why}. Boot it with --tpm, --format and --secure-boot")
        if os.path.exists(KEY):
            text = "the data disk is to be sealed to a TPM, and this machine has none that measured a signed image"
            raise DiskError(f"{text}; nothing was written. `inv logs` shows what the kernel says of it")
        return device
    if label is None and not blank:
        raise DiskError("this machine has a TPM, and the data disk is not sealed to it; it is not touched. Boot it without a TPM")
    provide(digest)
    if label in (None, seal.MAKING):
        _make(device, format_inside)
        return MAPPED
    _require_ours(label)
    _open(device)
    return MAPPED


def _require_ours(label: str | None) -> None:
    number = dataformat.number(label or "")
    if number is None:
        raise DiskError(f"the data disk holds something encrypted labelled `{label}` that is not ours; it is not touched")
    if number > dataformat.FORMAT:
        known = f"this image knows formats up to {dataformat.FORMAT}"
        raise DiskError(f"the data disk has format {number}, and {known}; it is not touched. Boot the newer image that made it")


def _make(device: str, format_inside: Callable[[str], None]) -> None:
    """Encrypt a disk that holds nothing, seal its key, and make the file system in it.

    Killed meanwhile, the machine finds the disk blank, or by its label half-made, and begins again: the header is made in memory
    and copied beginning with the label of a half-made one, which goes last.
    """
    if not os.path.exists(KEY):
        text = "the data disk is to be made, this machine has a TPM, and the host has given no recovery key"
        raise DiskError(f"{text}: boot it by `inv boot --tpm`, or without a TPM")
    try:
        with open(device, "rb") as disk:
            size = disk.seek(0, os.SEEK_END)
        with open(os.open(DRAFT, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "r+b") as draft:
            draft.truncate(size)
            call(CRYPTSETUP, "luksFormat", "--batch-mode", *_FORMAT, *_UNSTRETCHED, "--key-file", KEY, DRAFT)
            _enroll(DRAFT)
            _copy(draft.fileno(), device)
    except OSError as error:
        raise DiskError(f"the data disk cannot be encrypted: {error.strerror}") from error
    finally:
        if os.path.exists(DRAFT):
            os.unlink(DRAFT)
    # By the TPM at once: what does not open now would not open later.
    call(CRYPTSETUP, *_OPEN, *_TOKEN, device, NAME)
    format_inside(MAPPED)
    call(CRYPTSETUP, "config", "--label", dataformat.label(dataformat.FORMAT), device)


def _enroll(path: str) -> None:
    policy = ["--tpm2-pcrs=7", "--tpm2-public-key-pcrs=11", f"--tpm2-public-key={PUBLIC_KEY}", f"--tpm2-signature={SIGNATURE}"]
    call(ENROLL, f"--unlock-key-file={KEY}", f"--tpm2-device={TPM}", *policy, "--tpm2-pcrlock=", path)


def _copy(draft: int, device: str) -> None:
    disk = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        for start in range(0, HEADER, _FIRST):
            data = os.pread(draft, _FIRST, start)
            os.pwrite(disk, data, start)
            if start == 0:
                os.fsync(disk)
        os.fsync(disk)
    finally:
        os.close(disk)


def _open(device: str) -> None:
    try:
        call(CRYPTSETUP, *_OPEN, *_TOKEN, device, NAME)
        return
    except DiskError as error:
        if not os.path.exists(KEY):
            text = "the TPM does not open the data disk: the image, the key that signed it, or the TPM is another one"
            raise DiskError(f"{text}; nothing was written. Boot what sealed it, or {_RECOVER} ({error})") from error
    try:
        call(CRYPTSETUP, *_OPEN, "--key-file", KEY, device, NAME)
    except DiskError as error:
        raise DiskError(f"the recovery key does not open the data disk; nothing was written ({error})") from error
    # Before and not with it: the policy is the same on another TPM, and what is sealed under it already is not sealed again.
    call(ENROLL, "--wipe-slot=tpm2", device)
    _enroll(device)


def enlarge(device: str) -> str:
    """The device that holds the file system, with the size that the disk has now.

    Raises:
        DiskError: it cannot be had.
    """
    if not os.path.exists(MAPPED):
        return device
    # The kernel has the key, and gives it to nobody: the TPM has to unseal it again.
    call(CRYPTSETUP, "resize", *_TOKEN, NAME)
    return MAPPED
