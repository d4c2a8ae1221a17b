"""What Docker looks for in a kernel, as a table.

The options are those of moby's `contrib/check-config.sh` for kernels from 5.9 on with cgroup v2.
"""

from __future__ import annotations

from collections.abc import Mapping

from cofferdam.kernel.fragments import UNSET

NEEDS: dict[str, tuple[str, ...]] = {
    "generally necessary": (
        "NAMESPACES", "NET_NS", "PID_NS", "IPC_NS", "UTS_NS", "CGROUPS", "CGROUP_SCHED", "CGROUP_BPF", "KEYS",
        "VETH", "BRIDGE", "BRIDGE_NETFILTER", "IP_NF_FILTER", "IP_NF_MANGLE", "IP_NF_TARGET_MASQUERADE",
        "IP6_NF_FILTER", "IP6_NF_MANGLE", "IP6_NF_TARGET_MASQUERADE", "NETFILTER_XT_MATCH_ADDRTYPE",
        "NETFILTER_XT_MATCH_CONNTRACK", "NETFILTER_XT_MATCH_IPVS", "NETFILTER_XT_MARK", "IP_NF_RAW", "IP_NF_NAT",
        "NF_NAT", "IP6_NF_RAW", "IP6_NF_NAT", "POSIX_MQUEUE",
    ),
    "cgroup controllers": ("MEMCG", "CPUSETS", "CGROUP_PIDS", "CGROUP_FREEZER", "CGROUP_DEVICE", "CGROUP_HUGETLB"),
    "optional features": (
        "USER_NS", "SECCOMP", "SECCOMP_FILTER", "MEMCG_SWAP", "BLK_CGROUP", "BLK_DEV_THROTTLING", "CGROUP_PERF",
        "NET_CLS_CGROUP", "CGROUP_NET_PRIO", "CFS_BANDWIDTH", "FAIR_GROUP_SCHED", "IP_NF_TARGET_REDIRECT", "IP_VS",
        "IP_VS_NFCT", "IP_VS_PROTO_TCP", "IP_VS_PROTO_UDP", "IP_VS_RR", "SECURITY_SELINUX", "SECURITY_APPARMOR",
        "EXT4_FS", "EXT4_FS_POSIX_ACL", "EXT4_FS_SECURITY",
    ),
    "network driver overlay": ("VXLAN", "BRIDGE_VLAN_FILTERING"),
    "encrypted overlay networks": (
        "CRYPTO", "CRYPTO_AEAD", "CRYPTO_GCM", "CRYPTO_SEQIV", "CRYPTO_GHASH", "XFRM", "XFRM_USER", "XFRM_ALGO",
        "INET_ESP", "NETFILTER_XT_MATCH_BPF",
    ),
    "network driver ipvlan": ("IPVLAN",),
    "network driver macvlan": ("MACVLAN", "DUMMY"),
    "ftp and tftp clients in containers": ("NF_NAT_FTP", "NF_CONNTRACK_FTP", "NF_NAT_TFTP", "NF_CONNTRACK_TFTP"),
    "storage driver overlay": ("OVERLAY_FS",),
}  # fmt: skip
"""Options by the feature that wants them. Left out: btrfs and zfs (other storage drivers), ext3's own (ext4 serves it)."""


def missing(config: Mapping[str, str]) -> dict[str, str]:
    """Options of the table that the configuration has neither built in nor as a module, with the feature that wants each."""
    return {
        option: feature for feature, options in NEEDS.items() for option in options if config.get(option, UNSET) not in ("y", "m")
    }
