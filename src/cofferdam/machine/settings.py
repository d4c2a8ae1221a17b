"""What a user can choose about a virtual machine: one frozen model, sizes and names checked."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cofferdam.errors import UsageError
from cofferdam.machine.sharetext import share_text

MIB = 2**20
USUAL_MTU = 1500
_SIZE = re.compile(r"(\d+)(?:([kmgt])(?:i?b)?)?", re.IGNORECASE)
_LARGEST_DISK = 2**50
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
INSTANCE_NAME = r"^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$"

Accelerator = Literal["kvm", "whpx", "hvf", "tcg"]


def parse_size(text: str | int, *, unit: int = MIB) -> int:
    """Bytes of a size such as `20G`, `512M` or `2048`; a bare number counts in `unit` bytes.

    Raises:
        ValueError: not a size.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"`{text}` is not a size: write a number with K, M, G or T, such as 20G")
    number, letter = int(match[1]), match[2]
    return number * (_UNITS[letter.lower()] if letter else unit)


def default_cpus() -> int:
    """As many virtual CPUs as the host has, at most four."""
    return max(1, min(os.cpu_count() or 1, 4))


def _memory_mib(value: str | int) -> int:
    return parse_size(value) // MIB


Cpus = Annotated[int, Field(ge=1, le=255)]
Memory = Annotated[int, BeforeValidator(_memory_mib), Field(ge=256, le=1024 * 1024, description="MiB")]
DiskSize = Annotated[int, BeforeValidator(parse_size), Field(ge=64 * MIB, le=_LARGEST_DISK, description="bytes")]
ShareText = Annotated[str, AfterValidator(share_text)]
Port = Annotated[int, Field(ge=1, le=65535)]

# A later boot may be asked for in another directory.
FilePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
KeyPlace = Annotated[
    str, AfterValidator(lambda text: text if text.startswith("pkcs11:") or not text else str(Path(text).expanduser().absolute()))
]


class BootSettings(BaseModel):
    """One boot, as asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="default", pattern=INSTANCE_NAME, description="instance")
    profile: str = "default"
    image: FilePath | None = Field(default=None, description="disk or image directory; none takes the profile's latest image")
    format: Literal["direct", "raw", "qcow2", "vhdx"] = Field(default="direct", description="what is booted: kernel, or disk")
    secure_boot: KeyPlace = Field(default="", description="directory or file of the key for Secure Boot, or a PKCS#11 URI")
    certificate: FilePath | None = Field(default=None, description="certificate of that key, where no directory has both")
    tpm: bool = Field(default=False, description="a TPM measures the boot, and the data disk is sealed to it")
    recovery_key: FilePath | None = Field(default=None, description="opens a sealed data disk in the place of its TPM, once")
    accel: Literal["auto", "kvm", "whpx", "hvf", "tcg"] = "auto"
    cpus: Cpus = Field(default_factory=default_cpus)
    memory: Memory = 2048
    data_disk: DiskSize | None = Field(default=None, description="bytes; none keeps an existing disk's size, or makes 20 GiB")
    docker_port: Port | None = Field(default=None, description="host port of the Docker API; none takes a free one")
    ssh_port: Port | None = Field(default=None, description="host port of ssh; none takes a free one")
    publish: IPv4Address = Field(default=IPv4Address("127.0.0.1"), description="host address on which published ports listen")
    policy: Path | None = Field(default=None, description="admin-settings.json handed over to the guest")
    shares: tuple[ShareText, ...] | None = Field(default=None, description="directories of the host; none takes the default")
    socket: FilePath | None = Field(default=None, description="Unix socket for programs that want one")
    ca_files: tuple[FilePath, ...] = Field(default=(), description="certificate authorities for registries, PEM")
    proxy: str = Field(default="", repr=False, description="for pulls: an address, `none`, or empty for the variables")
    mtu: int = Field(default=USUAL_MTU, ge=576, le=9000, description="largest packet of the VM's network and of Docker's")
    activate: bool = Field(default=True, description="whether the docker context becomes the current one")
    hyperv: bool = Field(default=False, description="the hypervisor of Windows or an error, never a fallback")
    native: bool = Field(default=False, description="with hyperv: a virtual machine of Hyper-V, without QEMU")
    emulate_hyperv: bool = Field(default=False, description="under KVM: show the guest Hyper-V's interfaces")
    timeout: float = Field(default=240.0, gt=0, description="seconds until Docker must be ready")
    heartbeat: float = Field(default=20.0, gt=0, description="seconds a hardware accelerator has for the guest's first message")


class Sizes(BaseModel):
    """Sizes that an instance keeps from boot to boot; none where nothing was chosen.

    Attributes:
        cpus: virtual CPUs.
        memory: MiB.
        data_disk: bytes; kept here by versions that grew the disk of a running instance with its next boot only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    cpus: Cpus | None = None
    memory: int | None = Field(default=None, ge=256, le=1024 * 1024)
    data_disk: int | None = Field(default=None, ge=64 * MIB, le=_LARGEST_DISK)


_BOOT_OPTIONS = {
    "data_disk": "data-disk",
    "docker_port": "docker-port",
    "ssh_port": "ssh-port",
    "shares": "share",
    "ca_files": "ca-file",
    "secure_boot": "secure-boot",
    "recovery_key": "recovery-key",
}
_RESIZE_OPTIONS = {"data_disk": "disk"}


def boot_settings(**values: object) -> BootSettings:
    """Settings from command line values; those that are `None` or empty take their default.

    Raises:
        UsageError: a value is wrong; the message names the option.
    """
    return _validated(values, _BOOT_OPTIONS, "boot")


def boot_option(setting: str) -> str:
    """The option of `inv boot` for a setting."""
    return f"--{_BOOT_OPTIONS.get(setting, setting)}"


def shares_option(words: Sequence[str]) -> tuple[str, ...] | None:
    """The value of `shares` from the words of `--share`: `none` is none at all, and no word is the default.

    Raises:
        UsageError: `none` beside a directory.
    """
    if "none" in words and len(words) > 1:
        raise UsageError("--share none and a directory", hint="Leave one of them out.")
    return None if not words else () if list(words) == ["none"] else tuple(words)


def resize_sizes(**values: object) -> Sizes:
    """Sizes from command line values: `cpus`, `memory` and `data_disk`; those that are `None` or empty are not chosen.

    Raises:
        UsageError: a value is wrong, or none was given; the message names the option.
    """
    settings = _validated(values, _RESIZE_OPTIONS, "resize")
    if not settings.model_fields_set:
        raise UsageError("nothing to resize", hint="Give --cpus, --memory or --disk, such as `inv resize --memory 4G`.")
    return Sizes(**settings.model_dump(include=settings.model_fields_set))


def _validated(values: dict[str, object], options: dict[str, str], verb: str) -> BootSettings:
    given = {key: value for key, value in values.items() if value not in (None, "", [])}
    try:
        return BootSettings.model_validate(given)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = str(problem["loc"][0]) if problem["loc"] else "settings"
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"--{options.get(key, key)} {given.get(key, '')}: {text}")
        raise UsageError("\n".join(lines), hint=f"See `inv --help {verb}`.") from error
