"""The first process does not lower the VM's standing."""

import pytest

from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import process


@pytest.mark.parametrize(("asked", "given"), [(-1000, 0), (-1, 0), (0, 0), (500, 500), (None, 0)])
def test_the_score_is_never_below_that_of_the_vm(spec, context, asked, given):
    spec["process"]["oomScoreAdj"] = asked
    process.modify(spec, context)
    assert spec["process"]["oomScoreAdj"] == given


def test_a_missing_score_does_not_inherit_that_of_the_daemon(spec, context):
    del spec["process"]["oomScoreAdj"]
    process.modify(spec, context)
    assert spec["process"]["oomScoreAdj"] == 0


@pytest.mark.parametrize("option", ["apparmor=strict", "apparmor:strict"])
def test_a_profile_that_cannot_be_applied_is_refused(spec, context, hostconfig, option):
    hostconfig(SecurityOpt=["no-new-privileges", option])
    with pytest.raises(Refusal, match="AppArmor profile strict") as caught:
        process.modify(spec, context)
    assert caught.value.rule == "apparmor"


@pytest.mark.parametrize("options", [None, [], ["apparmor=unconfined"], ["apparmor="], ["seccomp=unconfined"], ["label=disable"]])
def test_other_security_options_do_no_harm(spec, context, hostconfig, options):
    hostconfig(SecurityOpt=options)
    process.modify(spec, context)


def test_a_profile_in_the_specification_is_the_kernels_to_judge(spec, context, hostconfig):
    hostconfig(SecurityOpt=["apparmor=strict"])
    spec["process"]["apparmorProfile"] = "strict"
    process.modify(spec, context)
    assert spec["process"]["apparmorProfile"] == "strict"


def test_builds_have_no_host_configuration(spec, context, hostconfig):
    hostconfig(SecurityOpt=["apparmor=strict"], Privileged=True)
    context.bundle = context.settings.docker_root + "/buildkit/executor/x"
    process.modify(spec, context)
    assert not context.is_privileged()


def test_an_unreadable_host_configuration_is_an_error(spec, context, hostconfig):
    hostconfig()
    with open(f"{context.settings.docker_root}/containers/{context.container}/hostconfig.json", "w") as file:
        file.write('{"Privileged": fal')
    with pytest.raises(ValueError):
        process.modify(spec, context)
