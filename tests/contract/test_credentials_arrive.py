"""What the host hands over as a credential has a file in the VM: named in tmpfiles.d, and imported by the service that makes it."""

from __future__ import annotations

import re

from cofferdam.machine import credentials
from cofferdam.paths import ROOT

OVERLAY = ROOT / "vm/rootfs/overlay/base/usr/lib"
FILES = {
    *credentials.SERVER_FILES,
    credentials.POLICY_FILE,
    credentials.AUTHORITIES_FILE,
    credentials.NETWORK_FILE,
    credentials.SHARES_FILE,
}


def test_every_credential_is_imported_and_written():
    written = re.findall(r"^f\^ .* cofferdam\.(\S+)$", (OVERLAY / "tmpfiles.d/cofferdam.conf").read_text(), re.MULTILINE)
    drop_in = OVERLAY / "systemd/system/systemd-tmpfiles-setup.service.d/cofferdam.conf"
    imported = re.findall(r"^ImportCredential=cofferdam\.(\S+)$", drop_in.read_text(), re.MULTILINE)
    assert sorted(written) == sorted(imported) == sorted(FILES)
