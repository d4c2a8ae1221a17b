"""The container's own profile: the floor is in it, and a user's denials stay."""

import pytest

from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import seccomp

ALLOW, ERRNO, KILL = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"


def verdict(profile, call):
    """What libseccomp makes of the profile: the action of the rule that names the call, the default one without."""
    actions = {rule["action"] for rule in profile["syscalls"] if call in rule["names"]}
    assert len(actions) <= 1, "two rules contradict each other"
    return actions.pop() if actions else profile["defaultAction"]


def modified(spec, context, profile):
    spec["linux"]["seccomp"] = profile
    seccomp.modify(spec, context)
    return spec["linux"]["seccomp"]


@pytest.mark.parametrize("profile", [None, {}], ids=["none", "empty"])
def test_without_a_profile_the_floor_is_the_profile(spec, context, profile):
    made = modified(spec, context, profile)
    for call in seccomp.FLOOR:
        assert verdict(made, call) == ERRNO
    assert verdict(made, "mount") == ALLOW
    assert verdict(made, "clone3") == ALLOW


def test_bpf_is_in_the_floor():
    assert "bpf" in seccomp.FLOOR


def test_an_allow_list_gets_no_hole(spec, context):
    rules = [{"names": ["read", "bpf", "write"], "action": ALLOW}, {"names": ["bpf"], "action": ALLOW}]
    made = modified(
        spec, context, {"defaultAction": ERRNO, "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}
    )
    assert verdict(made, "bpf") == ERRNO
    assert verdict(made, "read") == verdict(made, "write") == ALLOW
    assert verdict(made, "mount") == ERRNO
    assert (made["defaultErrnoRet"], made["architectures"]) == (38, ["SCMP_ARCH_X86_64"])


@pytest.mark.parametrize("default", [ERRNO, "SCMP_ACT_KILL", KILL, "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"])
def test_a_denying_default_denies_the_floor_too(spec, context, default):
    made = modified(spec, context, {"defaultAction": default, "syscalls": [{"names": ["bpf"], "action": ALLOW}]})
    assert verdict(made, "bpf") == default


@pytest.mark.parametrize("default", [ALLOW, "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY", "SCMP_ACT_OF_TOMORROW"])
def test_any_other_default_gets_the_floor(spec, context, default):
    made = modified(spec, context, {"defaultAction": default, "syscalls": [{"names": ["bpf", "read"], "action": ALLOW}]})
    assert verdict(made, "bpf") == ERRNO


def test_the_users_denials_are_kept(spec, context):
    rules = [
        {"names": ["chmod"], "action": ERRNO, "errnoRet": 13},
        {"names": ["personality"], "action": KILL, "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
    ]
    made = modified(spec, context, {"defaultAction": ALLOW, "syscalls": rules})
    for rule in rules:
        assert rule in made["syscalls"]
    assert verdict(made, "bpf") == ERRNO


def test_the_order_of_rules_is_kept(spec, context):
    rules = [{"names": [f"call{n}"], "action": KILL} for n in range(5)]
    made = modified(spec, context, {"defaultAction": ALLOW, "syscalls": rules})
    assert [each for each in made["syscalls"] if each["action"] == KILL] == rules


def test_a_listener_is_refused(spec, context):
    with pytest.raises(Refusal, match="listener") as caught:
        modified(spec, context, {"defaultAction": ALLOW, "listenerPath": "/run/docker.sock"})
    assert caught.value.rule == "seccomp"


def test_no_list_of_calls(spec, context):
    assert verdict(modified(spec, context, {"defaultAction": ALLOW, "syscalls": None}), "bpf") == ERRNO
