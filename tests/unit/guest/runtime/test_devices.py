"""Device nodes and the control group's rules for them."""

import pytest

from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import dev, devices

DEFAULT = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}


def node(path, major, minor, kind="c"):
    return {"path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o666}


FUSE, TUN = node("/dev/fuse", 10, 229), node("/dev/net/tun", 10, 200)
FOREIGN = [
    node("/dev/vda", 254, 0, "b"),
    node("/dev/kmsg", 1, 11),
    node("/dev/mem", 1, 1),
    node("/dev/kvm", 10, 232),
    node("/dev/console", 5, 1),
    node("/dev/null", 1, 1),
    node("/dev/fuse", 10, 229, "b"),
    node("/dev/fifo", 0, 0, "p"),
]


def test_every_container_has_the_default_nodes_and_crun_makes_none(spec, context):
    devices.modify(spec, context)
    assert set(context.nodes) == DEFAULT
    assert spec["linux"]["devices"] == []


def test_fuse_and_tun_on_request(spec, context):
    spec["linux"]["devices"] = [FUSE, TUN]
    devices.modify(spec, context)
    assert set(context.nodes) == DEFAULT | {"/dev/fuse", "/dev/net/tun"}
    assert context.nodes["/dev/fuse"] == ("c", 10, 229)


def test_a_known_node_under_another_name(spec, context):
    spec["linux"]["devices"] = [node("/dev//sub/../myfuse", 10, 229)]
    devices.modify(spec, context)
    assert context.nodes["/dev/myfuse"] == ("c", 10, 229)


@pytest.mark.parametrize("path", ["/etc/fuse", "/dev", "/dev/../etc/x", "dev/fuse", "/device/fuse", "/"])
def test_nodes_are_below_dev_only(spec, context, path):
    spec["linux"]["devices"] = [node(path, 10, 229)]
    with pytest.raises(Refusal, match="only be below /dev"):
        devices.modify(spec, context)


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda each: f"{each['path']}-{each['type']}")
def test_the_vms_devices_are_refused(spec, context, foreign):
    spec["linux"]["devices"] = [foreign]
    with pytest.raises(Refusal, match="of the VM") as caught:
        devices.modify(spec, context)
    assert caught.value.rule == "device"


def test_privileged_drops_them_instead(spec, context, hostconfig):
    hostconfig(Privileged=True)
    spec["linux"]["devices"] = [*FOREIGN, FUSE]
    devices.modify(spec, context)
    assert set(context.nodes) == DEFAULT | {"/dev/fuse"}
    assert context.nodes["/dev/null"] == ("c", 1, 3)
    assert spec["linux"]["devices"] == []


def test_the_users_rules_are_replaced(spec, context, hostconfig):
    hostconfig(Privileged=True)
    spec["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    devices.modify(spec, context)
    assert spec["linux"]["resources"]["devices"] == devices.rules()


def test_rules_begin_with_denying_everything_and_allow_no_wildcard_but_ptys():
    first, *rest = devices.rules()
    assert first == {"allow": False, "access": "rwm"}
    for rule in rest:
        assert rule["allow"] is True
        assert rule["type"] == "c"
        assert "minor" in rule or rule["major"] == 136
    allowed = {(each["major"], each.get("minor")) for each in rest}
    assert {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200), (10, 229), (136, None)} <= allowed
    assert not {(1, 1), (1, 2), (1, 4), (1, 11), (10, 232), (10, 241)} & allowed


def test_resources_may_be_absent(spec, context):
    del spec["linux"]["resources"]
    devices.modify(spec, context)
    assert spec["linux"]["resources"]["devices"] == devices.rules()


@pytest.mark.parametrize("entries", [[], ["bind"], ["tmpfs", "tmpfs"], ["tmpfs", "bind"]])
def test_dev_belongs_to_the_container(spec, context, entries):
    spec["mounts"] = [{"destination": "/dev", "type": each, "source": "/host/x"} for each in entries]
    with pytest.raises(Refusal, match="can't mount on /dev"):
        dev.modify(spec, context)


@pytest.mark.parametrize("path", ["/dev/console", "/dev/pts/5", "/dev/shm", "/dev/fd/7", "/dev/stdin", "/dev/core", "/dev/ptmx"])
def test_a_node_cannot_take_a_place_that_has_a_meaning(context, path):
    context.nodes = {path: ("c", 10, 229)}
    with pytest.raises(Refusal, match="container's own /dev"):
        dev._populate(-1, context, False)
