"""Limits and devices of a container: what `create` and `update` share (Go: api/types/container.Resources)."""

from __future__ import annotations

from cofferdam_guest.apiproxy.schema.kinds import Bool, Int, Kind, ListOf, MapOf, Object, Str

_UINT64 = Int(0, 2**64 - 1)
_UINT16 = Int(0, 2**16 - 1)

STRINGS = ListOf(Str())
TEXTS = MapOf(Str())

_WEIGHTS = ListOf(Object({"Path": Str(), "Weight": _UINT16}))
_RATES = ListOf(Object({"Path": Str(), "Rate": _UINT64}))
_DEVICES = ListOf(Object({"PathOnHost": Str(), "PathInContainer": Str(), "CgroupPermissions": Str()}))
_DEVICE_REQUESTS = ListOf(
    Object({"Driver": Str(), "Count": Int(), "DeviceIDs": STRINGS, "Capabilities": ListOf(STRINGS), "Options": TEXTS})
)
ULIMITS = ListOf(Object({"Name": Str(), "Soft": Int(), "Hard": Int()}))
RESTART_POLICY = Object({"Name": Str(), "MaximumRetryCount": Int()})

_NUMBERS = (
    *("CpuShares", "Memory", "NanoCpus", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime", "KernelMemory"),
    *("KernelMemoryTCP", "MemoryReservation", "MemorySwap", "MemorySwappiness", "PidsLimit", "CpuCount", "CpuPercent"),
)

RESOURCES: dict[str, Kind] = {
    **dict.fromkeys(_NUMBERS, Int()),
    **dict.fromkeys(("IOMaximumIOps", "IOMaximumBandwidth"), _UINT64),
    **dict.fromkeys(("CgroupParent", "CpusetCpus", "CpusetMems"), Str()),
    **dict.fromkeys(("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"), _RATES),
    "BlkioWeight": _UINT16,
    "BlkioWeightDevice": _WEIGHTS,
    "Devices": _DEVICES,
    "DeviceCgroupRules": STRINGS,
    "DeviceRequests": _DEVICE_REQUESTS,
    "OomKillDisable": Bool(),
    "Ulimits": ULIMITS,
}

ALIASES = {"CPURealtimePeriod": "CpuRealtimePeriod", "CPURealtimeRuntime": "CpuRealtimeRuntime", "NanoCPUs": "NanoCpus"}
"""docker-py and bodies after the text of the API's documentation."""

IGNORED = frozenset(("DiskQuota",))
"""Windows' field of API 1.25, still sent by docker-java."""
