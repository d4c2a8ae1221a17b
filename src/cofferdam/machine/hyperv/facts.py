"""What a Windows host has of that which a virtual machine of Hyper-V needs: read by a script, judged here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cofferdam.errors import HostError

FEATURE = "Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V-All -All"
JOIN = r'Add-LocalGroupMember -SID S-1-5-32-578 -Member "$env:USERDOMAIN\$env:USERNAME"'


class NativeFacts(BaseModel):
    """The host, as `probe.ps1` tells of it.

    Attributes:
        module: PowerShell's module for Hyper-V is there.
        service: Hyper-V's management service runs.
        allowed: this user may make virtual machines.
        switch: our switch is there; never, as long as the user may not look.
        address: the host has its address on it.
        nat: its network is translated.
        resolvers: IPv4 addresses of the host's name servers, the best first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    module: bool
    service: bool
    allowed: bool
    switch: bool
    address: bool
    nat: bool
    resolvers: list[Annotated[IPv4Address, Field(strict=False)]]

    @property
    def usable_resolvers(self) -> list[IPv4Address]:
        """Those that the guest can ask: not what listens on the host's own loopback."""
        return [each for each in self.resolvers if not each.is_loopback and not each.is_unspecified]


@dataclass(frozen=True)
class Need:
    """Something that must be there: how it is seen, what is said when it is not, and the next step."""

    met: Callable[[NativeFacts], bool]
    missing: str
    hint: str


def needs(network_script: str) -> tuple[Need, ...]:
    """What a host needs, in the order in which it is mended; one restart or log-in lies between some of them."""
    again = f'As administrator: powershell -ExecutionPolicy Bypass -File "{network_script}" (once for this host).'
    return (
        Need(
            lambda facts: facts.module and facts.service,
            "Hyper-V is not on",
            f"In PowerShell as administrator: {FEATURE}, then restart Windows. Home editions have none: leave out --native.",
        ),
        Need(
            lambda facts: facts.allowed,
            "this user may not make virtual machines: not a member of `Hyper-V Administrators`",
            f"In PowerShell as administrator: {JOIN}, then log out and in again.",
        ),
        Need(lambda facts: facts.switch and facts.address and facts.nat, "the network of the machines is not there", again),
    )


def read_facts(text: str) -> NativeFacts:
    """What the probe printed.

    Raises:
        HostError: it is not what the probe prints.
    """
    try:
        return NativeFacts.model_validate_json(text)
    except ValidationError as error:
        raise HostError(f"PowerShell does not tell what Hyper-V has: {text.strip()[:200]!r}", hint="See `inv doctor`.") from error


def require(facts: NativeFacts, network_script: str) -> None:
    """Refuse a host on which something is missing.

    Raises:
        HostError: it is; the message names the first thing, the hint the exact command.
    """
    for need in needs(network_script):
        if not need.met(facts):
            raise HostError(f"--hyperv --native cannot work here: {need.missing}", hint=need.hint)
