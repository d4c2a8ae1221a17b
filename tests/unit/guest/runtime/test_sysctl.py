"""Kernel parameters: the container's own only."""

import pytest

from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import sysctl


@pytest.mark.parametrize(
    "name",
    [
        "net.ipv4.ip_forward",
        "net.core.somaxconn",
        "net.ipv4.conf.eth0.rp_filter",
        "fs.mqueue.msg_max",
        "kernel.msgmax",
        "kernel.shmmax",
        "kernel.shm_rmid_forced",
        "kernel.sem",
        "kernel.domainname",
    ],
)
def test_namespaced(name):
    assert sysctl.is_namespaced(name)


@pytest.mark.parametrize(
    "name",
    [
        "kernel.core_pattern",
        "kernel.modprobe",
        "vm.drop_caches",
        "fs.file-max",
        "kernel.pid_max",
        "kernel.semaphore",
        "kernel.hostname",
        "",
        "net",
        "network.x",
        "kernel",
        "user.max_user_namespaces",
        "dev.tty.ldisc_autoload",
        "fs.mqueue",
        "Net.ipv4.x",
    ],
)
def test_of_the_whole_vm(spec, context, name):
    spec["linux"]["sysctl"] = {name: "1"}
    with pytest.raises(Refusal, match="not namespaced") as caught:
        sysctl.modify(spec, context)
    assert caught.value.rule == "sysctl"


@pytest.mark.parametrize(
    "name",
    [
        "net/ipv4/ip_forward",
        "net.../kernel/core_pattern",
        "net..kernel.core_pattern",
        "kernel.shm/../core_pattern",
        "net.ipv4.x=1",
        "kernel.shm_rmid_forced=1+kernel.core_pattern",
        "net.ipv4.x\n",
        "net.ipv4.x y",
        "net.ipv4.ẋ",
        "net.\x00",
        "kernel.sem ",
    ],
)
def test_odd_spellings(name):
    assert not sysctl.is_namespaced(name)


@pytest.mark.parametrize("value", ["1\nkernel.core_pattern=|/x", "1\0", "\n"])
def test_a_value_is_one_line(spec, context, value):
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": value}
    with pytest.raises(Refusal, match="more than one line"):
        sysctl.modify(spec, context)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("0 2147483647", "0 65535"),
        ("0\t2147483647", "0 65535"),
        ("0 65536", "0 65535"),
        ("5 10", "5 10"),
        ("70000 80000", "65535 65535"),
    ],
)
def test_the_group_range_for_ping_ends_with_the_id_range(spec, context, asked, given):
    spec["linux"]["sysctl"] = {"net.ipv4.ping_group_range": asked, "net.ipv4.ip_unprivileged_port_start": "0"}
    sysctl.modify(spec, context)
    assert spec["linux"]["sysctl"] == {"net.ipv4.ping_group_range": given, "net.ipv4.ip_unprivileged_port_start": "0"}


def test_the_end_follows_the_settings(spec, context):
    context.settings.size = 1000
    spec["linux"]["sysctl"] = {"net.ipv4.ping_group_range": "0 2147483647"}
    sysctl.modify(spec, context)
    assert spec["linux"]["sysctl"]["net.ipv4.ping_group_range"] == "0 999"


@pytest.mark.parametrize("value", [None, {}])
def test_none_are_fine(spec, context, value):
    spec["linux"]["sysctl"] = value
    sysctl.modify(spec, context)


def test_one_bad_among_good_ones_is_enough(spec, context):
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "vm.swappiness": "1"}
    with pytest.raises(Refusal, match=r"vm\.swappiness"):
        sysctl.modify(spec, context)
