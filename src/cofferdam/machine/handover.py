"""What a boot hands over to the guest beside its keys: policy, authorities, proxies and MTU, together small enough."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from cofferdam.errors import UsageError
from cofferdam.machine.authorities import read_authorities
from cofferdam.machine.credentials import AUTHORITIES_FILE, NETWORK_FILE, POLICY_FILE, Credentials, handed_over
from cofferdam.machine.proxies import Proxies, chosen_proxies
from cofferdam.machine.settings import USUAL_MTU, BootSettings
from cofferdam.policy import PolicyFile

# With base64 and the keys these are the 64 KiB that all SMBIOS strings of a machine have.
LIMIT = 40 * 1024


@dataclass(frozen=True)
class Handover:
    """Credentials by name, none where a boot has none; and the proxies, for the report."""

    files: dict[str, bytes | None] = field(repr=False)
    proxies: Proxies

    def write(self, found: Credentials) -> Credentials:
        """The instance's credentials with these, and without those of an earlier boot."""
        for name, content in self.files.items():
            found = handed_over(found, name, content)
        return found


def handover(settings: BootSettings, policy: PolicyFile | None) -> Handover:
    """Read and judge what a boot is to hand over.

    Raises:
        UsageError: a file or an address cannot be used, or all of it is too large.
    """
    proxies = chosen_proxies(settings.proxy)
    network = {"proxies": proxies.urls, "mtu": settings.mtu if settings.mtu != USUAL_MTU else None}
    files = {
        POLICY_FILE: policy.data if policy else None,
        AUTHORITIES_FILE: read_authorities(settings.ca_files),
        NETWORK_FILE: json.dumps(network).encode() if any(network.values()) else None,
    }
    size = sum(len(content) for content in files.values() if content)
    if size > LIMIT:
        message = f"--policy and --ca-file together hand over {size} bytes; at boot there is room for {LIMIT}"
        raise UsageError(message, hint="Bake the policy into an image (docs/policy.md), or give fewer certificates.")
    return Handover(files, proxies)
