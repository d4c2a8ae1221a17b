"""Accelerators: each reason why one cannot work, and what is tried then."""

from __future__ import annotations

import dataclasses

import pytest

from cofferdam.errors import HostError
from cofferdam.machine.accel import Candidate, candidates, plan
from cofferdam.machine.facts import HostFacts, QemuFacts, parse_version
from cofferdam.machine.hosts.windows import LACKS

ALL = frozenset({"kvm", "tcg", "hvf", "whpx"})
QEMU = QemuFacts("qemu", (9, 2), ALL, sandbox=True)
LINUX = HostFacts("linux", "x86_64", QEMU, frozenset({"fpu", "vmx"}), kvm_device=True, kvm_access=True)
WINDOWS = HostFacts("windows", "x86_64", QEMU, hypervisor=True)
MACOS = HostFacts("darwin", "x86_64", QEMU, hypervisor=True)


def without(accelerator: str, facts: HostFacts) -> HostFacts:
    return dataclasses.replace(facts, qemu=dataclasses.replace(QEMU, accelerators=ALL - {accelerator}))


def judged(facts: HostFacts, name: str) -> Candidate:
    found = [candidate for candidate in candidates(facts) if candidate.accelerator == name]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(("facts", "name"), [(LINUX, "kvm"), (WINDOWS, "whpx"), (MACOS, "hvf"), (LINUX, "tcg")])
def test_where_everything_is_there_it_is_usable(facts, name):
    assert judged(facts, name).usable
    assert [each.accelerator for each in candidates(facts)] == ["kvm", "whpx", "hvf", "tcg"]


@pytest.mark.parametrize("flag", ["vmx", "svm"])
def test_the_processor_flag_is_named(flag):
    assert flag in judged(dataclasses.replace(LINUX, cpu_flags=frozenset({flag})), "kvm").reason


@pytest.mark.parametrize(
    ("facts", "name", "reason", "hint"),
    [
        (dataclasses.replace(LINUX, kvm_device=False), "kvm", "/dev/kvm is not there", "firmware"),
        (dataclasses.replace(LINUX, kvm_access=False), "kvm", "no permission for /dev/kvm", "usermod -aG kvm"),
        (dataclasses.replace(LINUX, cpu_flags=frozenset({"fpu"})), "kvm", "neither vmx nor svm", "nested virtualization"),
        (dataclasses.replace(LINUX, machine="aarch64"), "kvm", "this processor is aarch64", ""),
        (without("kvm", LINUX), "kvm", "built without kvm", "QEMU package"),
        (without("whpx", WINDOWS), "whpx", "built without whpx", "QEMU package"),
        (without("hvf", MACOS), "hvf", "built without hvf", "QEMU package"),
        (without("tcg", LINUX), "tcg", "built without tcg", "QEMU package"),
        (dataclasses.replace(WINDOWS, hypervisor=False), "whpx", "Windows Hypervisor Platform is off", "HypervisorPlatform"),
        (dataclasses.replace(MACOS, hypervisor=False), "hvf", "no Hypervisor framework", "tcg"),
        *((dataclasses.replace(WINDOWS, hypervisor=False, lack=key), "whpx", *LACKS[key]) for key in LACKS),
        (dataclasses.replace(MACOS, hypervisor=False, lack="entitlement"), "hvf", "not signed", "brew install qemu"),
        (dataclasses.replace(MACOS, machine="arm64"), "hvf", "this processor is arm64", ""),
        (WINDOWS, "kvm", "kvm is for Linux; this is Windows", ""),
        (LINUX, "whpx", "whpx is for Windows; this is Linux", ""),
        (LINUX, "hvf", "hvf is for macOS; this is Linux", ""),
    ],
)
def test_each_reason(facts, name, reason, hint):
    candidate = judged(facts, name)
    assert not candidate.usable
    assert reason in candidate.reason
    assert hint in candidate.hint
    with pytest.raises(HostError, match=f"--accel {name} cannot work here") as error:
        plan(name, candidates(facts))
    assert reason in str(error.value)
    assert error.value.hint, "every refusal has a next step"


def test_auto_takes_the_hardware_and_keeps_emulation_in_reserve():
    chosen = plan("auto", candidates(LINUX))
    assert [each.accelerator for each in chosen.attempts] == ["kvm", "tcg"]
    assert chosen.why == judged(LINUX, "kvm").reason


def test_auto_falls_to_emulation_and_says_why():
    chosen = plan("auto", candidates(dataclasses.replace(LINUX, kvm_device=False)))
    assert [each.accelerator for each in chosen.attempts] == ["tcg"]
    assert chosen.why == "no kvm: /dev/kvm is not there"


def test_what_is_asked_for_is_tried_alone():
    for name in ("kvm", "tcg"):
        assert [each.accelerator for each in plan(name, candidates(LINUX)).attempts] == [name]


def test_what_the_user_said_is_named():
    with pytest.raises(HostError, match=r"^--emulate-hyperv cannot work here: /dev/kvm is not there"):
        plan("kvm", candidates(dataclasses.replace(LINUX, kvm_device=False)), "--emulate-hyperv")


def test_apple_silicon_emulates_and_says_why():
    chosen = plan("auto", candidates(dataclasses.replace(MACOS, machine="arm64")))
    assert [each.accelerator for each in chosen.attempts] == ["tcg"]
    assert chosen.why == "no hvf: this processor is arm64, and the image's is x86_64"


def test_nothing_usable_is_an_error_that_lists_all():
    facts = dataclasses.replace(LINUX, kvm_device=False, qemu=dataclasses.replace(QEMU, accelerators=frozenset({"kvm"})))
    with pytest.raises(HostError, match="no accelerator works here") as error:
        plan("auto", candidates(facts))
    assert "/dev/kvm is not there" in str(error.value)
    assert "built without tcg" in str(error.value)


@pytest.mark.parametrize(
    ("text", "version"),
    [("QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7)", (7, 2)), ("QEMU emulator version 11.0.0\nCopyright", (11, 0))],
)
def test_version_of_qemu(text, version):
    assert parse_version(text) == version


def test_a_qemu_without_version_is_an_error():
    with pytest.raises(HostError, match="does not tell its version"):
        parse_version("command not found")
