"""The record of a refusal: one structured event in the VM's journal that names rule, container, image and reason; none for what was allowed."""

from __future__ import annotations

import json

import pytest

from vmtest.flows import box
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

REFUSALS = {
    "pid": (("--pid=host",), "host-namespace", "share namespaces [pid] with the host"),
    "network": (("--network=host",), "host-namespace", "share a network namespace with the host"),
    "device": (("--device", "/dev/vdb"), "device", "/dev/vdb"),
    "sysctl": (("--sysctl", "net.ipv4/../../kernel/core_pattern=x"), "sysctl", "core_pattern"),
    "mount": (("-v", "/etc/docker:/s"), "restricted-mount", "/etc/docker"),
    "socket": (("-v", "/run/docker.sock:/s"), "socket-mount", "docker socket mount denied"),
    "destination": (("--tmpfs", "/proc/x"), "mount", "/proc/x"),
}


def events(vm: Vm) -> list[dict[str, str]]:
    """All refusals so far, oldest first."""
    text = vm.shell("journalctl --sync; journalctl --quiet --no-pager --output=json COFFERDAM_EVENT=refused")
    return [json.loads(line) for line in text.strip().split("\n") if line]


@pytest.mark.parametrize(("options", "rule", "words"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.isolation(why="nothing else leaves a record of a refusal")
def test_refusal_leaves_one_event(vm: Vm, options: tuple[str, ...], rule: str, words: str) -> None:
    image, name = vm.image("busybox"), vm.name()
    before = len(events(vm))
    message = vm.fail("run", "--name", name, *options, image, "true", match=".")
    new = events(vm)[before:]
    assert len(new) == 1, new
    event = new[0]
    container = vm.succeed("inspect", "--format", "{{.Id}}", name).strip()
    assert (event["COFFERDAM_RULE"], event["COFFERDAM_CONTAINER"]) == (rule, container)
    assert words in event["COFFERDAM_REASON"]
    assert event["COFFERDAM_REASON"] in message, "the user and the journal read different reasons"
    assert event["COFFERDAM_IMAGE"] in (image, f"{image}:latest", f"docker.io/{image}")
    assert event["SYSLOG_IDENTIFIER"] == "cofferdam"
    assert event["PRIORITY"] == "4"


def test_allowed_containers_leave_no_event(vm: Vm) -> None:
    """Neither what runs, nor what fails for a reason that has nothing to do with isolation."""
    before = len(events(vm))
    with box(vm, "--privileged", "--userns=host", "-v", "/data", "--tmpfs", "/scratch", "--device", "/dev/fuse") as made:
        made.sh("true")
    vm.docker("run", "--rm", vm.image("busybox"), "/no/such/program", check=False)
    vm.docker("run", "--rm", vm.image("busybox"), "false", check=False)
    assert events(vm)[before:] == []


@pytest.mark.isolation(why="a container cannot forge the record: the journal takes the trusted fields from the kernel")
def test_event_names_the_program_that_sent_it(vm: Vm) -> None:
    """With the fields that the journal itself vouches for, so that a line of another program is told apart."""
    vm.fail("run", "--rm", "--uts=host", vm.image("busybox"), "true", match=".")
    found = events(vm)
    assert found
    assert found[-1]["_UID"] == "0"
    assert found[-1]["_TRANSPORT"] == "journal"
    assert found[-1]["_SYSTEMD_UNIT"] == "containerd.service"


HOSTILE = "x\nCOFFERDAM_RULE=forged\nCOFFERDAM_EVENT=refused\n"


@pytest.mark.isolation(why="words of the user in a reason are one value, whatever is in them")
def test_fields_cannot_be_smuggled_in_by_a_name(vm: Vm) -> None:
    before = len(events(vm))
    vm.fail("run", "--rm", "--mount", f'type=bind,src=/etc,"dst=/mnt/{HOSTILE}"', vm.image("busybox"), "true", match=".")
    vm.fail("run", "--rm", "--sysctl", f"net.{HOSTILE}=1", vm.image("busybox"), "true", match=".")
    new = events(vm)[before:]
    assert len(new) == 2
    assert [event["COFFERDAM_RULE"] for event in new] == ["restricted-mount", "sysctl"]
