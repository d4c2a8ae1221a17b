"""The doctor: each requirement, met and not met, on machines made of a few scripts; what it mends, and what it leaves."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import pytest

from cofferdam.doctor import doctor, model, programs, system
from cofferdam.doctor.model import Check, Requirement, fail, ok
from cofferdam.doctor.table import REQUIREMENTS
from cofferdam.errors import HostError
from cofferdam.machine.facts import HostFacts

NOBODY = 65534
GIB = 2**30


def problems(checks: list[Check]) -> dict[str, str]:
    return {check.id: check.status for check in checks if check.status != "ok"}


@pytest.mark.parametrize("uid", [0, NOBODY])
def test_a_whole_machine_is_ok_and_names_what_was_found(machine, uid):
    machine.user(uid)
    checks = {check.id: check for check in doctor()}
    assert problems(list(checks.values())) == {}
    assert {check.fix for check in checks.values()} == {""}
    assert checks["mmdebstrap"].found == f"mmdebstrap 1.5.7 ({machine.programs}/mmdebstrap)"
    assert checks["ssh"].found.startswith("OpenSSH_10.0p2")
    assert checks["qemu"].found.startswith("QEMU 9.2 with kvm, tcg")
    assert checks["accelerator"].found.startswith("kvm: /dev/kvm works and the processor has svm; ")


def test_rows_have_names_of_their_own_and_git_is_none_of_them():
    names = [row.id for row in REQUIREMENTS]
    assert len(set(names)) == len(names)
    assert "git" not in names


@pytest.mark.parametrize("row", REQUIREMENTS, ids=lambda row: row.id)
def test_every_row_has_a_next_step_even_when_its_probe_has_none(row):
    check = dataclasses.replace(row, probe=lambda: fail("nothing")).check()
    assert check.status == row.worst
    assert check.fix


@pytest.mark.parametrize(
    ("program", "name", "status", "package"),
    [
        ("mmdebstrap", "mmdebstrap", "fail", "mmdebstrap"),
        ("gpg", "gpg", "warn", "gpg"),
        ("unshare", "unshare", "fail", "util-linux"),
        ("newuidmap", "newuidmap", "fail", "uidmap"),
        ("qemu-system-x86_64", "qemu", "fail", "qemu-system-x86"),
        ("ssh", "ssh", "warn", "openssh-client"),
    ],
)
def test_a_missing_program_names_its_package(machine, program, name, status, package):
    machine.user(NOBODY)
    machine.script("apt-get", "exit 1")
    machine.lacks(program)
    check = machine.check(name)
    assert check.status == status
    assert "not installed" in check.found
    assert f"apt-get install {package}" in check.fix


@pytest.mark.parametrize(
    ("number", "own"), [("1.13.2", True), ("2.0.0", True), ("1.12.0", False), ("version 7.2.0", False), ("", False)]
)
def test_who_shares_directories_is_this_machines_virtiofsd_or_debians(machine, monkeypatch, number, own):
    monkeypatch.setattr("cofferdam.machine.shares.program._PLACES", ())
    if number:
        machine.script("virtiofsd", f"echo virtiofsd {number}")
    check = machine.check("virtiofsd")
    assert check.status == "ok"
    words = f"virtiofsd {number.rpartition('.')[0]} ({machine.programs}/virtiofsd)"
    assert check.found == (words if own else "Debian's, unpacked into the cache by the first boot that shares a directory")


def test_the_next_step_fits_the_user_and_the_system(machine):
    machine.lacks("mmdebstrap")
    assert machine.check("mmdebstrap").fix == "Install mmdebstrap (Debian's package name) with your package manager."
    machine.script("apt-get", "exit 1")
    assert machine.check("mmdebstrap").fix == "Run `inv doctor --fix`, or: apt-get install mmdebstrap"
    machine.user(NOBODY)
    assert machine.check("mmdebstrap").fix == "sudo apt-get install mmdebstrap"


def test_a_program_that_does_not_run_is_as_good_as_missing(machine):
    machine.script("mmdebstrap", "echo oh; exit 7")
    check = machine.check("mmdebstrap")
    assert (check.status, "ended with status 7" in check.found) == ("fail", True)


def test_a_missing_docker_is_a_warning_that_says_what_serves_instead(machine):
    machine.lacks("docker")
    check = machine.check("docker")
    assert check.status == "warn"
    assert "DOCKER_HOST" in check.fix
    assert "tools tree" in check.fix


def test_a_program_that_hangs_ends_the_check_and_not_the_doctor(machine, monkeypatch):
    monkeypatch.setattr(programs, "PATIENCE", 0.2)
    machine.script("docker", "exec /bin/sleep 30")
    check = machine.check("docker")
    assert (check.status, "no end after" in check.found) == ("warn", True)


def test_a_missing_keyring(machine):
    (machine.base / "keyring").unlink()
    check = machine.check("keyring")
    assert check.status == "fail"
    assert "debian-archive-keyring" in check.fix


@pytest.mark.parametrize(("version", "status"), [("7.1.0", "fail"), ("7.2.0", "ok"), ("11.0.50", "ok")])
def test_the_oldest_qemu(machine, version, status):
    machine.script("qemu-system-x86_64", machine.qemu.replace("9.2.1", version))
    assert machine.check("qemu").status == status


def test_software_emulation_alone_is_a_warning_with_each_reason(machine, monkeypatch):
    monkeypatch.setattr(programs, "probe_host", lambda: dataclasses.replace(machine.kvm, kvm_access=False))
    check = machine.check("accelerator")
    assert check.status == "warn"
    for text in ("tcg: software", "no kvm: no permission for /dev/kvm", "whpx is for Windows", "hvf is for macOS"):
        assert text in check.found
    assert "usermod -aG kvm" in check.fix


@pytest.mark.parametrize(("accelerators", "status"), [(None, "warn"), (frozenset(), "fail")])
def test_without_qemu_the_accelerator_is_not_guessed_and_without_any_it_fails(machine, monkeypatch, accelerators, status):
    def probe() -> HostFacts:
        if accelerators is None:
            raise HostError("no QEMU")
        return dataclasses.replace(machine.kvm, qemu=dataclasses.replace(machine.kvm.qemu, accelerators=accelerators))

    monkeypatch.setattr(programs, "probe_host", probe)
    assert machine.check("accelerator").status == status


@pytest.mark.parametrize(("uid", "user_namespace"), [(0, False), (NOBODY, True)])
def test_namespaces_are_tried_as_the_tools_tree_makes_them(machine, uid, user_namespace):
    machine.user(uid)
    log = machine.base / "log"
    machine.script("unshare", f'echo "$*" >>{log}')
    assert machine.check("namespaces").status == "ok"
    assert ("--mount --net --user --map-root-user true" in log.read_text()) is user_namespace


@pytest.mark.parametrize(
    ("setting", "bad", "good"),
    [
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "15000"),
    ],
)
def test_forbidden_namespaces_name_the_setting(machine, setting, bad, good):
    machine.user(NOBODY)
    machine.script("unshare", "echo 'unshare: Operation not permitted' >&2; exit 1")
    path = machine.sysctl / setting
    path.parent.mkdir()
    path.write_text(f"{bad}\n")
    check = machine.check("namespaces")
    assert check.status == "fail"
    assert "Operation not permitted" in check.found
    assert check.fix == f"sudo sysctl -w {setting.replace('/', '.')}={good}"
    path.write_text(f"{good}\n")
    assert machine.check("namespaces").fix == "Allow user namespaces."


def test_a_confined_root_is_told_so(machine):
    machine.script("unshare", "exit 1")
    check = machine.check("namespaces")
    assert check.status == "fail"
    assert "ended with status 1" in check.found
    assert "--privileged" in check.fix


@pytest.mark.parametrize(
    ("subuid", "subgid", "lacking"),
    [
        ("nobody:1000:65536", "nobody:1000:65536", []),
        ("", "nobody:1000:65536", ["subuid"]),
        ("nobody:1000:65536", "somebody:1000:65536", ["subgid"]),
        ("nobody:1000:65535", None, ["subuid", "subgid"]),
        ("broken\nnobody:1000:many\nnobody:5:99999", "nobody:1:65536", []),
    ],
)
def test_subordinate_ids(machine, subuid, subgid, lacking):
    machine.user(NOBODY)
    for name, text in {"subuid": subuid, "subgid": subgid}.items():
        (machine.base / name).unlink() if text is None else (machine.base / name).write_text(text)
    check = machine.check("subordinate-ids")
    assert check.status == ("fail" if lacking else "ok")
    assert [name for name in ("subuid", "subgid") if f"/{name}" in check.found] == lacking
    assert ("usermod --add-subuids" in check.fix) is bool(lacking)
    machine.user(0)
    assert machine.check("subordinate-ids").status == "ok"


FIRST, LATER = "cache/kernel/0123abcd.tmp", "cache/kernel/0123abcd"


@pytest.mark.parametrize(
    ("row", "cached", "sizes"),
    [("cache-space", FIRST, (5, 7, 11)), ("cache-space", LATER, (1, 3, 5)), ("state-space", FIRST, (0, 2, 9))],
)
def test_the_first_build_wants_more_room_than_later_ones(machine, row, cached, sizes):
    (machine.base / cached).mkdir(parents=True)
    (machine.base / f"{LATER}.lock").touch()
    for size, status in zip(sizes, ("fail", "warn", "ok"), strict=True):
        machine.free(size * GIB)
        check = machine.check(row)
        assert check.status == status
        assert f"{size * 1024} MiB" in check.found
        assert ("larger disk" in check.fix) is (status != "ok")


@pytest.mark.parametrize(("kind", "name"), [("cache", "COFFERDAM_CACHE_HOME"), ("state", "COFFERDAM_STATE_HOME")])
def test_directories_are_written_to_and_left_empty(machine, monkeypatch, kind, name):
    assert "to be made in" in machine.check(f"{kind}-directory").found
    (machine.base / kind).mkdir()
    assert machine.check(f"{kind}-directory").found == str(machine.base / kind)
    assert list((machine.base / kind).iterdir()) == []
    monkeypatch.setenv(name, str(machine.base / "keyring"))
    assert "not a directory" in machine.check(f"{kind}-directory").found
    # Nobody can make a file there, root neither.
    monkeypatch.setenv(name, "/proc/cofferdam")
    check = machine.check(f"{kind}-directory")
    assert (check.status, name in check.fix) == ("fail", True)


def test_a_cache_below_a_closed_directory_is_out_of_reach_for_mmdebstrap(machine):
    machine.user(NOBODY)
    assert machine.check("cache-path").status == "ok"
    machine.base.chmod(0o700)
    check = machine.check("cache-path")
    assert check.status == "fail"
    assert f"chmod o+x {machine.base}," in check.fix
    machine.user(0)
    assert machine.check("cache-path").status == "ok"


@pytest.mark.parametrize(("mebibytes", "status"), [(3071, "warn"), (3072, "ok")])
def test_memory(machine, mebibytes, status):
    (machine.base / "meminfo").write_text(f"MemFree: 1 kB\nMemAvailable: {mebibytes * 1024} kB\n")
    assert machine.check("memory").status == status


def test_a_clock_that_is_older_than_the_project(machine, monkeypatch):
    assert machine.check("clock").status == "ok"
    monkeypatch.setattr(system.time, "time", lambda: 10_000.0)
    check = machine.check("clock")
    assert (check.status, "1970-01-01" in check.found) == ("warn", True)


def test_a_clock_that_is_before_the_latest_image(machine):
    image = machine.base / "cache/images/default"
    image.mkdir(parents=True)
    os.utime(image, (4e9, 4e9))
    check = machine.check("clock")
    assert (check.status, "image of 2096-10-02" in check.found, "timedatectl" in check.fix) == ("warn", True, True)


@pytest.mark.parametrize(
    ("platform", "machine_name", "status"),
    [("linux", "x86_64", "ok"), ("linux", "aarch64", "fail"), ("darwin", "arm64", "warn"), ("win32", "AMD64", "warn")],
)
def test_building_wants_linux_on_x86_64(monkeypatch, platform, machine_name, status):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(system.platform, "machine", lambda: machine_name)
    assert system.build_host().status == status


def test_an_old_python(monkeypatch):
    assert system.python().status == "ok"
    monkeypatch.setattr(system, "OLDEST_PYTHON", (99, 0))
    assert system.python().status == "fail"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_not_asked_for_what_only_builds(monkeypatch, platform):
    rows = [dataclasses.replace(row, probe=lambda: ok("")) for row in REQUIREMENTS]
    monkeypatch.setattr(sys, "platform", platform)
    names = {check.id for check in doctor(requirements=rows)}
    assert names >= {"python", "build-host", "qemu", "accelerator", "cache-space", "state-space"}
    assert not names & {"mmdebstrap", "keyring", "unshare", "namespaces", "newuidmap", "subordinate-ids", "memory"}


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "/x"), HostError("cannot", hint="Do.")])
def test_a_probe_that_cannot_look_is_not_met(error):
    def probe() -> model.Finding:
        raise error

    check = Requirement("row", "", probe, advice="Else.").check()
    assert check.status == "fail"
    assert check.found == str(error)
    assert check.fix == (getattr(error, "hint", "") or "Else.")


def apt_get(machine, then: str = "") -> Path:
    log = machine.base / "apt.log"
    machine.script("apt-get", f'echo "$DEBIAN_FRONTEND $*" >>{log}\ncase " $* " in *" install "*) {then or ":"} ;; esac')
    return log


def test_fix_installs_everything_by_one_call_and_looks_again(machine):
    whole = {name: str(shutil.copy(machine.programs / name, machine.base / name)) for name in ("mmdebstrap", "ssh")}
    log = apt_get(machine, f"/bin/cp {' '.join(whole.values())} {machine.programs}")
    machine.lacks("mmdebstrap", "ssh", "docker")
    assert problems(doctor(fix=True)) == {"docker": "warn"}
    update, install = log.read_text().splitlines()
    assert update.startswith("noninteractive ")
    assert update.endswith(" update")
    assert install.startswith("noninteractive ")
    assert install.endswith(" install -y --no-install-recommends mmdebstrap openssh-client")


def test_nothing_is_installed_without_fix_or_need_or_root(machine):
    log = apt_get(machine)
    doctor(fix=True)
    machine.lacks("mmdebstrap")
    assert problems(doctor()) == {"mmdebstrap": "fail"}
    machine.user(NOBODY)
    assert machine.check("mmdebstrap", fix=True).fix == "sudo apt-get install mmdebstrap"
    assert not log.exists()


def test_a_failed_installation_is_told_and_the_row_stays(machine, capsys):
    apt_get(machine, "echo 'E: Unable to locate package' >&2; exit 100")
    machine.lacks("mmdebstrap")
    assert problems(doctor(fix=True)) == {"mmdebstrap": "fail"}
    told = capsys.readouterr().err
    assert "ended with status 100" in told
    assert "Unable to locate package" in told
