"""What happens to an instance over weeks, in one go: restart, other sizes, snapshots, deletion with and without its data."""

from __future__ import annotations

import json
import shlex
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cofferdam.machine import api
from cofferdam.machine.channels import Address
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.qmp import Monitor
from vmtest.flows import wait_until
from vmtest.machines import Machines
from vmtest.verbs import SMALL, done, inv, row

pytestmark = [pytest.mark.vm, pytest.mark.slow]

NAME = "daily"
NAMED = ("--name", NAME)
BOOT = ("boot", *NAMED, "--profile", "debug", *SMALL)
PLOT = "boot.svg"
NOTE = "/var/lib/docker/note"


def inside(command: str) -> str:
    return done("ssh", *NAMED, "--command", command).strip()


def write(text: str) -> None:
    inside(f"echo {shlex.quote(text)} >{NOTE} && sync {NOTE}")


@pytest.fixture(scope="module", autouse=True)
def daily(machines: Machines) -> Iterator[None]:
    """The instance, booted; the tests of this module follow each other."""
    machines.image("debug")
    done(*BOOT, "--share", str(machines.directory), "--timings", "--plot", str(machines.directory / PLOT))
    yield
    if Instance(NAME).state() not in (State.ABSENT, State.DELETED):
        api.stop(NAME, force=True)
    inv("delete", *NAMED, "--data", "--yes")


def test_our_own_directories_are_covered_in_a_share(machines: Machines) -> None:
    """All of a directory is shared that has the machines in it, and neither they nor a way to write there are to be seen."""
    state = machines.directory / "state"
    (machines.directory / "seen").write_text("shared\n")
    assert any(state.iterdir())
    assert inside(
        f"cat {machines.directory}/seen; ls -A {state} | wc -l; touch {state}/x 2>/dev/null || echo refused"
    ).split() == [
        "shared",
        "0",
        "refused",
    ]
    assert row(NAME)["shares"] == [{"path": str(machines.directory), "read_only": False}]


def test_timings_add_up_and_name_the_services(machines: Machines) -> None:
    """The guest tells when its services were ready; what each stage adds makes up the whole boot, in the chart that it drew, too."""
    found = json.loads(done("timings", *NAMED, "--json"))
    words = {element.text for element in ElementTree.parse(machines.directory / PLOT).iter() if element.text}
    assert {*(stage["name"] for stage in found["stages"]), *(f"+{stage['adds']:.2f} s" for stage in found["stages"])} <= words
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert {"firmware", "kernel", "data disk", "policy", "dockerd", "proxy", "ready"} <= set(stages)
    assert abs(sum(stage["adds"] for stage in found["stages"]) - stages["ready"]["end"]) < 0.5
    assert stages["policy"]["end"] <= stages["dockerd"]["end"] <= stages["ready"]["end"] + 0.5


def test_diagnosis_of_a_running_machine_has_no_keys(tmp_path: Path) -> None:
    target = tmp_path / "report.tar.gz"
    done("diagnose", *NAMED, "--out", str(target))
    with tarfile.open(target) as archive:
        files = {member.name.rpartition("/")[2]: archive.extractfile(member) for member in archive if member.isreg()}
        texts = {name: file.read() for name, file in files.items() if file}
    assert {"index.txt", "doctor.json", "status.json", "boot.json", "console.log", "policy.json"} <= set(texts)
    assert b"DEBUG IMAGE" in texts["console.log"]
    key = (Instance(NAME).credentials / "client/key.pem").read_bytes().splitlines()[2]
    assert not [name for name, text in texts.items() if key in text or b"PRIVATE KEY" in text]


def pause(seconds: float) -> None:
    """Hold the machine, as a sleeping desktop does."""
    record = Instance(NAME).record
    assert record is not None
    with Monitor(Address.from_text(record.qmp), timeout=10) as monitor:
        monitor.pause()
        time.sleep(seconds)
        monitor.resume()


def behind() -> float:
    """Seconds by which the guest's clock is behind the host's, as read over ssh."""
    return time.time() - float(inside("date +%s.%N"))


def test_clock_is_right_again_after_a_pause() -> None:
    pause(25)
    wait_until(lambda: abs(behind()) < 10, "the clock is right", seconds=60, pause=1)


def test_clock_that_is_an_hour_off_is_mended() -> None:
    inside("date --set='1 hour ago' >/dev/null")
    wait_until(lambda: abs(behind()) < 10, "the clock is right", seconds=60, pause=1)


def test_sizes_hold_from_the_next_boot_on_and_data_stays() -> None:
    write("first")
    disk = int(inside("df -B1 --output=size /var | tail -1"))
    said = done("resize", *NAMED, "--cpus", "1", "--memory", "1536M", "--disk", "3G")
    assert "inv restart" in said
    assert inside("nproc") == "2" or row(NAME)["cpus"] == 1
    restarted = inv("restart", *NAMED, "--quiet")
    assert restarted.returncode == 0 and restarted.stdout and not restarted.stderr
    assert inside("nproc") == "1"
    assert 1300 < int(inside("awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo")) < 1600
    assert int(inside("df -B1 --output=size /var | tail -1")) > disk + 0.8 * 2**30
    assert inside(f"cat {NOTE}") == "first"
    assert len(row(NAME)["shares"]) == 1, "what was shared still is"


def test_bad_sizes_change_nothing() -> None:
    for words in (("--disk", "1G"), ("--cpus", "0"), ("--memory", "lots"), ()):
        assert inv("resize", *NAMED, *words).returncode == 2
    assert row(NAME)["cpus"] == 1


def test_snapshot_brings_back_what_was() -> None:
    refused = inv("snapshot.save", *NAMED, "--label", "before")
    assert refused.returncode != 0
    assert "inv stop" in refused.stderr
    done("stop", *NAMED)
    done("snapshot.save", *NAMED, "--label", "before")
    done(*BOOT[:5])
    write("second")
    done("stop", *NAMED)
    done("snapshot.restore", *NAMED, "--label", "before")
    done(*BOOT[:5])
    assert inside(f"cat {NOTE}") == "first"
    listed = json.loads(done("snapshot.list", *NAMED, "--json"))
    assert [each["label"] for each in listed] == ["before"]


def test_deleted_instance_keeps_its_data_until_that_is_deleted_too() -> None:
    write("third")
    assert inv("delete", *NAMED).returncode != 0, "it runs, and nobody said yes"
    done("delete", *NAMED, "--yes")
    assert "deleted" in done("list")
    again = done(*BOOT[:5])
    assert "data disk" in again
    assert inside(f"cat {NOTE}") == "third"
    done("delete", *NAMED, "--data", "--yes")
    assert Instance(NAME).state() is State.ABSENT
    assert not Instance(NAME).directory.exists()
