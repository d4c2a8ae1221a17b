"""Of a specification only what is known is kept."""

import pytest

from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import envelope


def test_what_dockerd_writes_stays(spec, context):
    before = {key: dict(value) if isinstance(value, dict) else value for key, value in spec.items()}
    envelope.modify(spec, context)
    assert set(spec) == set(before)
    assert set(spec["linux"]) == set(before["linux"])
    assert spec["process"]["args"] == ["sh"]
    assert spec["process"]["capabilities"] == {"bounding": ["CAP_CHOWN"]}


def test_annotations_and_unknown_fields_are_dropped(spec, context):
    spec["annotations"] = {"run.oci.handler": "krun", "run.oci.hooks.stderr": "/run/x", "harmless": "1"}
    spec["vm"] = {"hypervisor": {"path": "/bin/sh"}}
    spec["linux"] |= {"personality": {"domain": "LINUX32"}, "rootfsPropagation": "shared", "timeOffsets": {}, "mountLabel": "x"}
    spec["process"] |= {"scheduler": {"policy": "SCHED_FIFO"}, "ioPriority": {}, "selinuxLabel": "x", "execCPUAffinity": {}}
    envelope.modify(spec, context)
    assert not {"annotations", "vm"} & set(spec)
    assert not {"personality", "rootfsPropagation", "timeOffsets", "mountLabel"} & set(spec["linux"])
    assert not {"scheduler", "ioPriority", "selinuxLabel", "execCPUAffinity"} & set(spec["process"])


def test_variables_that_steer_an_engine_go_and_lookalikes_stay(spec, context):
    spec["process"]["env"] = ["SYSBOX_ALLOW_TRUSTED_XATTR=1", "PATH=/bin", "MY_SYSBOX_=1", "EMPTY="]
    envelope.modify(spec, context)
    assert spec["process"]["env"] == ["PATH=/bin", "MY_SYSBOX_=1", "EMPTY="]


def test_no_environment_is_an_empty_one(spec, context):
    spec["process"]["env"] = None
    envelope.modify(spec, context)
    assert spec["process"]["env"] == []


@pytest.mark.parametrize("kind", ["RLIMIT_RTPRIO", "RLIMIT_NICE", "RLIMIT_RTTIME"])
def test_limits_that_would_starve_the_vm_are_refused(spec, context, kind):
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}, {"type": kind, "soft": 99, "hard": 99}]
    with pytest.raises(Refusal, match=f"ulimit {kind.removeprefix('RLIMIT_').lower()} "):
        envelope.modify(spec, context)


def test_other_limits_stay(spec, context):
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]
    envelope.modify(spec, context)
    assert spec["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]


@pytest.mark.parametrize("key", ["uidMappings", "gidMappings"])
def test_id_mappings_of_the_engine_are_refused(spec, context, key):
    spec["linux"][key] = [{"containerID": 0, "hostID": 0, "size": 4294967295}]
    with pytest.raises(Refusal, match="userns-remap") as caught:
        envelope.modify(spec, context)
    assert caught.value.rule == "id-mapping"


def test_empty_id_mappings_do_no_harm(spec, context):
    spec["linux"]["uidMappings"] = []
    envelope.modify(spec, context)
    assert "uidMappings" not in spec["linux"]
