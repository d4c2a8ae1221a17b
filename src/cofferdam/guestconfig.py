"""The guest's configuration modules, which check on the host what the guest will read.

The guest is a distribution of its own, for a newer Python, and is not installed here: its sources are in this checkout.
"""

from __future__ import annotations

import sys

from cofferdam.paths import ROOT

if (_SOURCES := str(ROOT / "vm/guest/src")) not in sys.path:
    sys.path.append(_SOURCES)

from cofferdam_guest.below import is_below
from cofferdam_guest.config import admin, adminkeys, daemonoptions, dataformat, findings, seal, shares
from cofferdam_guest.config.admin import AdminFile
from cofferdam_guest.config.effective import Effective, effective
from cofferdam_guest.config.policy import Policy, canonical_json
from cofferdam_guest.config.shares import Share

__all__ = [
    "AdminFile",
    "Effective",
    "Policy",
    "Share",
    "admin",
    "adminkeys",
    "canonical_json",
    "daemonoptions",
    "dataformat",
    "effective",
    "findings",
    "is_below",
    "seal",
    "shares",
]
