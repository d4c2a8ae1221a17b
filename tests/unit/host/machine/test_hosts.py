"""Hosts: what Windows and macOS lack, what `--hyperv` means where, and the table of traps."""

from __future__ import annotations

import dataclasses
import re

import pytest

from cofferdam.doctor import programs
from cofferdam.errors import CofferdamError, HostError, UsageError
from cofferdam.machine.facts import HostFacts, QemuFacts
from cofferdam.machine.hosts import macos, windows
from cofferdam.machine.hosts.choice import Choice, choose
from cofferdam.machine.hosts.traps import TRAPS, Traits, traits
from cofferdam.machine.hosts.windows import LACKS, Virtualization, lack
from cofferdam.machine.settings import boot_settings
from cofferdam.paths import ROOT

READY = Virtualization(build=22631, library=True, running=True, slat=False, firmware=False)
IDLE = dataclasses.replace(READY, running=False, slat=True, firmware=True)


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (READY, ""),
        (dataclasses.replace(READY, build=18363), "build"),
        (dataclasses.replace(READY, build=19041), ""),
        # Hyper-V may run for Windows' own protections while the feature is off; nothing else can be told then.
        (dataclasses.replace(READY, library=False), "feature"),
        (dataclasses.replace(IDLE, library=False), "feature"),
        (dataclasses.replace(IDLE, slat=False, firmware=False), "slat"),
        (dataclasses.replace(IDLE, firmware=False), "firmware"),
        (IDLE, "hypervisor"),
    ],
)
def test_what_windows_lacks(found, missing):
    assert lack(found) == missing
    assert missing in ("", *LACKS)


def test_the_feature_is_turned_on_by_the_exact_command_and_a_restart():
    _, hint = LACKS["feature"]
    assert "Enable-WindowsOptionalFeature -Online -FeatureName HypervisorPlatform -All" in hint
    assert "DISM /Online /Enable-Feature /FeatureName:HypervisorPlatform /All" in hint
    assert "as administrator" in hint
    assert "restart Windows" in hint


@pytest.mark.parametrize(("lacking", "status"), [("", "ok"), ("firmware", "warn")])
def test_the_doctor_says_the_same(monkeypatch, lacking, status):
    qemu = QemuFacts("qemu", (10, 0), frozenset({"whpx", "tcg"}), sandbox=False)
    facts = HostFacts("windows", "x86_64", qemu, hypervisor=not lacking, lack=lacking)
    monkeypatch.setattr(programs, "probe_host", lambda: facts)
    found = programs.hypervisor("whpx")()
    assert found.status == status
    assert (found.found, found.fix) == (LACKS[lacking] if lacking else ("Windows Hypervisor Platform is on", ""))


def test_elsewhere_there_is_nothing_of_windows():
    assert lack(windows.probe()) == "build"


@pytest.mark.parametrize(
    ("support", "entitlements", "missing"),
    [
        ("1\n", f"<key>{macos.ENTITLEMENT}</key><true/>", ""),
        ("1\n", None, ""),
        ("1\n", "<dict></dict>", "entitlement"),
        ("0\n", f"<key>{macos.ENTITLEMENT}</key>", "framework"),
        ("", None, "framework"),
    ],
)
def test_what_macos_lacks(support, entitlements, missing):
    assert macos.lack(support, entitlements) == missing
    assert missing in ("", *macos.LACKS)


def test_rosetta_does_not_hide_the_processor():
    assert macos.processor("x86_64", "1\n") == "arm64"
    assert macos.processor("x86_64", "") == "x86_64"
    assert macos.sysctl("hw.optional.arm64") == "", "this is no Mac"


@pytest.mark.parametrize(
    ("system", "options", "choice"),
    [
        ("windows", {"hyperv": True}, Choice("whpx", "--hyperv")),
        ("windows", {"hyperv": True, "accel": "whpx"}, Choice("whpx", "--hyperv")),
        ("windows", {"hyperv": True, "native": True}, Choice("auto", "--hyperv --native", native=True)),
        ("linux", {"emulate_hyperv": True}, Choice("kvm", "--emulate-hyperv")),
        ("linux", {}, Choice("auto", "--accel auto")),
        ("darwin", {"accel": "hvf"}, Choice("hvf", "--accel hvf")),
    ],
)
def test_what_the_options_ask_for(system, options, choice):
    assert choose(boot_settings(**options), system) == choice


@pytest.mark.parametrize(
    ("system", "options", "kind", "text"),
    [
        ("linux", {"hyperv": True}, HostError, "--hyperv uses the hypervisor of Windows; this is Linux"),
        ("darwin", {"hyperv": True}, HostError, "this is macOS"),
        ("linux", {"hyperv": True, "native": True}, HostError, "this is Linux"),
        ("windows", {"native": True}, UsageError, "--native is a kind of --hyperv"),
        ("windows", {"hyperv": True, "emulate_hyperv": True}, UsageError, "--hyperv and --emulate-hyperv"),
        ("windows", {"emulate_hyperv": True}, HostError, "--emulate-hyperv needs KVM"),
        ("darwin", {"emulate_hyperv": True}, HostError, "--emulate-hyperv needs KVM"),
        ("linux", {"emulate_hyperv": True, "accel": "tcg"}, UsageError, "--accel tcg and --emulate-hyperv, which needs kvm"),
        ("windows", {"hyperv": True, "accel": "tcg"}, UsageError, "--accel tcg and --hyperv, which needs whpx"),
        ("windows", {"hyperv": True, "native": True, "accel": "whpx"}, UsageError, "--accel whpx and --native"),
    ],
)
def test_what_cannot_be(system, options, kind, text):
    with pytest.raises(CofferdamError, match=re.escape(text)) as error:
        choose(boot_settings(**options), system)
    assert type(error.value) is kind
    assert error.value.hint


def test_every_trap_is_a_row_of_the_documentation_and_no_other():
    text = (ROOT / "docs/hyperv.md").read_text(encoding="utf-8")
    table = text.split("<!-- traps:begin", 1)[1].split("<!-- traps:end", 1)[0]
    documented = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert documented == [trap.id for trap in TRAPS]


def test_every_trap_has_a_source_and_somebody_who_sees_to_it():
    assert len({trap.id for trap in TRAPS}) == len(TRAPS)
    for trap in TRAPS:
        assert trap.source
        assert trap.changes.keys() <= {field.name for field in dataclasses.fields(Traits)}
        assert (ROOT / "src/cofferdam" / trap.handled).is_file(), trap.id


def test_a_trap_ends_with_its_version():
    assert traits("whpx", "windows", (10, 9)).accel == "kernel-irqchip=off"
    assert traits("whpx", "windows", (11, 0)).accel == ""
    assert not traits("whpx", "windows", (11, 0)).page_reporting
    assert traits("kvm", "linux", (11, 0)) == Traits()
