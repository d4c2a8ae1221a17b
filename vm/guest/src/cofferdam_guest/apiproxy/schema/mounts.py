"""A mount with the options of all its types (Go: api/types/mount; `ImageOptions` and `TmpfsOptions.Options` are newer)."""

from __future__ import annotations

from cofferdam_guest.apiproxy.schema.kinds import Bool, Int, ListOf, Object, Str
from cofferdam_guest.apiproxy.schema.resources import STRINGS, TEXTS

_BIND_FLAGS = ("NonRecursive", "CreateMountpoint", "ReadOnlyNonRecursive", "ReadOnlyForceRecursive")
_DRIVER = Object({"Name": Str(), "Options": TEXTS})

MOUNT = Object(
    {
        **dict.fromkeys(("Type", "Source", "Target", "Consistency"), Str()),
        "ReadOnly": Bool(),
        "BindOptions": Object({"Propagation": Str(), **dict.fromkeys(_BIND_FLAGS, Bool())}),
        "VolumeOptions": Object({"NoCopy": Bool(), "Labels": TEXTS, "Subpath": Str(), "DriverConfig": _DRIVER}),
        "TmpfsOptions": Object({"SizeBytes": Int(), "Mode": Int(0, 2**32 - 1), "Options": ListOf(STRINGS)}),
        "ImageOptions": Object({"Subpath": Str()}),
        "ClusterOptions": Object({}),
    }
)
