"""Boot, status, stop and what happens when anything is killed in between, with a stand-in for QEMU (fakeqemu.py)."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from cofferdam.errors import BootError, InstanceError, UsageError
from cofferdam.machine import api, launch, prepare
from cofferdam.machine import boot as booting
from cofferdam.machine.console import last_lines
from cofferdam.machine.facts import HostFacts, QemuFacts
from cofferdam.machine.hostos import wait_until
from cofferdam.machine.instance import Instance, State, instances
from cofferdam.machine.ready import MachineEnded, NoHeartbeat
from cofferdam.machine.report import BootReport
from cofferdam.machine.settings import BootSettings
from cofferdam.policy import joined, read_policy
from cofferdam.progress import Progress

FAKE = Path(__file__).with_name("fakeqemu.py")


@dataclass
class Image:
    profile: str = "default"
    kernel: Path = Path("/image/vmlinuz")
    root: Path = Path("/image/root.erofs")
    cmdline: tuple[str, ...] = ("loglevel=4",)
    ssh_key: Path | None = None
    policy: Path | None = None
    ssh_known_hosts = verity = hashes = None
    directory: Path = Path("/image")
    data_format: int = 1


class Host:
    """The machine this runs on, as the tests want it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
        self._monkeypatch = monkeypatch
        self.output = io.StringIO()
        qemu = QemuFacts(str(program), (9, 2), frozenset({"kvm", "tcg"}), sandbox=False)
        self.facts = HostFacts("linux", "x86_64", qemu, frozenset({"vmx"}), kvm_device=True, kvm_access=True)
        monkeypatch.setattr(prepare, "probe_host", lambda: self.facts)

    def boot(self, behaviour: str, image: Image | None = None, **settings: object) -> BootReport:
        self._monkeypatch.setenv("FAKE_QEMU", behaviour)
        values = {"name": "box", "data_disk": "64M", "timeout": 20, "heartbeat": 10, **settings}
        return api.boot(BootSettings.model_validate(values), Progress(Console(file=self.output, width=200)), image or Image())


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    program = tmp_path / "qemu"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {FAKE} "$@"\n')
    program.chmod(0o755)
    yield Host(monkeypatch, program)
    for instance in instances():
        if instance.alive:
            instance.kill()
    assert wait_until(lambda: launch.reap() == 0, 120)


def left_over(instance: Instance) -> set[str]:
    """What an instance that does not run may have."""
    kept = {
        "claim.lock",
        "life.lock",
        "data.raw",
        "credentials",
        "console.log",
        "qemu.log",
        "console.log.old",
        "qemu.log.old",
        "ports.json",
        *("latest.json", "images.json", "ports.lock", "keeper-start.lock", "keeper.log", "keeper.log.old"),
    }
    sockets = {path.name for path in instance.socket("qmp").parent.iterdir()}
    return ({path.name for path in instance.directory.iterdir()} - kept) | sockets


def docker_contexts() -> list[str]:
    meta = Path(os.environ["DOCKER_CONFIG"]) / "contexts/meta"
    return sorted(json.loads(path.read_text())["Name"] for path in meta.glob("*/meta.json"))


def test_boot_status_stop(host):
    report = host.boot("kvm=ok")
    instance = Instance("box")
    assert (report.accelerator, report.kernel, report.profile, report.context) == ("kvm", "7.3.4", "default", "cofferdam-box")
    assert set(report.seconds) == {"heartbeat", "docker"}
    assert json.loads(json.dumps(report.as_dict()))["environment"]["DOCKER_HOST"] == report.docker_host
    assert docker_contexts() == ["cofferdam-box"]
    assert instance.keeper_lock.held_by_another(), "the boot has started what keeps published ports"
    (row,) = api.status("box")
    assert (row["state"], row["docker_host"], row["cert_path"]) == ("running", report.docker_host, str(report.cert_path))
    assert list(api.logs("box", lines=1)) == ["booted with kvm"]
    assert (report.notes, row["ports"]) == ((), [])

    stopped = api.stop("box")
    assert (stopped.how, stopped.context) == ("guest", "cofferdam-box")
    assert instance.state() is State.STOPPED
    assert left_over(instance) == set()
    assert docker_contexts() == []
    assert wait_until(lambda: not instance.keeper_lock.held_by_another(), 20), "the port keeper ends with QEMU"
    assert api.stop("box").how == "not running"


def test_the_next_boot_keeps_disk_keys_and_port(host):
    first = host.boot("kvm=ok")
    instance = Instance("box")
    with instance.data_disk.open("r+b") as disk:
        disk.write(b"data")
    keys = (first.cert_path / "key.pem").read_bytes()
    api.stop("box")
    second = host.boot("kvm=ok", data_disk="128M", publish="0.0.0.0")
    assert second.docker_host == first.docker_host
    assert (second.cert_path / "key.pem").read_bytes() == keys
    assert (second.notes[0], instance.record.publish) == ("the data disk has been grown", "0.0.0.0")
    assert second.notes[1].startswith("warning: published ports listen on 0.0.0.0")
    assert instance.data_disk.stat().st_size == 128 * 2**20
    with instance.data_disk.open("rb") as disk:
        assert disk.read(4) == b"data"


def test_a_policy_is_handed_over_remembered_and_gone_with_the_next_boot(host, tmp_path):
    policy, baked = tmp_path / "company.json", tmp_path / "admin-settings.json"
    policy.write_text('{"blockDockerLoad": {"value": true}, "unknown": 1, "cofferdam": {"registries": {"allowed": []}}}')
    baked.write_text('{"cofferdam": {"registries": {"locked": true, "allowed": ["docker.io"]}}}')
    report = host.boot("kvm=ok", Image(policy=baked), policy=str(policy))
    handed_over = Instance("box").credentials / "smbios/admin-settings"
    assert f"path={handed_over}\0" in Path(f"/proc/{api.status('box')[0]['pid']}/cmdline").read_text()
    expected = joined(read_policy(baked), read_policy(policy)).policy.sha256
    assert api.status("box")[0]["policy"] == {"file": str(policy), "sha256": expected}
    assert ["unknown key" in report.notes[0], "the image locks this setting" in report.notes[1]] == [True, True]
    api.stop("box")
    host.boot("kvm=ok", Image(policy=baked))
    assert api.status("box")[0]["policy"] == {"file": None, "sha256": joined(read_policy(baked)).policy.sha256}
    assert not handed_over.exists()


def test_a_bad_policy_boots_nothing(host, tmp_path):
    policy = tmp_path / "company.json"
    policy.write_text('{"blockDockerLoad": true}')
    with pytest.raises(UsageError, match=r"company\.json:1:21: error: blockDockerLoad"):
        host.boot("kvm=ok", policy=str(policy))
    assert instances() == []


def test_an_image_without_a_copy_of_its_policy_still_boots(host):
    host.boot("kvm=ok")
    assert api.status("box")[0]["policy"] == {"file": None, "sha256": None}


def test_a_running_one_is_not_booted_twice(host):
    host.boot("kvm=ok")
    with pytest.raises(InstanceError, match="already running") as error:
        host.boot("kvm=ok")
    assert "inv stop --name box" in error.value.hint
    assert Instance("box").state() is State.RUNNING


def test_two_instances_beside_each_other(host):
    one, two = host.boot("tcg=ok", name="one", accel="tcg"), host.boot("tcg=ok", name="two", accel="tcg")
    assert one.docker_host != two.docker_host
    assert docker_contexts() == ["cofferdam-one", "cofferdam-two"]
    api.stop("one")
    assert docker_contexts() == ["cofferdam-two"]
    assert [row["state"] for row in api.status()] == ["stopped", "running"]


@pytest.mark.parametrize(("does", "how", "within"), [("stubborn", "button", 0.2), ("deaf", "killed", 0.2), ("busy", "button", 5)])
def test_a_guest_that_does_not_obey_is_stopped_all_the_same(host, monkeypatch, does, how, within):
    monkeypatch.setattr("cofferdam.machine.stop._BUTTON_SECONDS", 0.3)
    host.boot(f"kvm={does}")
    monkeypatch.setattr(Instance.send, "__defaults__", (0.2,))
    assert api.stop("box", timeout=within).how == how
    assert left_over(Instance("box")) == set()


def test_force_asks_nobody(host):
    host.boot("kvm=ok")
    assert api.stop("box", force=True).how == "killed"
    assert Instance("box").state() is State.STOPPED
    assert docker_contexts() == []


def test_no_heartbeat_starts_again_with_emulation(host):
    report = host.boot("kvm=silent,tcg=ok", heartbeat=1.0)
    assert report.accelerator == "tcg"
    assert report.why == "kvm was tried: the guest gave no heartbeat within 1 s"
    assert "starting again with tcg" in host.output.getvalue()
    assert api.status("box")[0]["accelerator"] == "tcg"


def test_a_hardware_accelerator_that_ends_starts_again_with_emulation(host):
    report = host.boot("kvm=exit,tcg=ok")
    assert report.accelerator == "tcg"
    assert "QEMU ended with status 1" in report.why


@pytest.mark.parametrize(
    ("behaviour", "kind", "texts"),
    [
        ("silent", NoHeartbeat, ["no heartbeat within 1 s", "| booted with kvm"]),
        ("panic", BootError, ["the kernel panicked: no init", "| Kernel panic"]),
        ("failed", BootError, ["docker.service failed in the guest", "no disk", "| booted with kvm"]),
        ("exit", MachineEnded, ["QEMU ended with status 1", "qemu: internal error", "| booted with kvm"]),
        ("hang", BootError, ["Docker was not ready within 3 s; up so far: kernel", "| booted with kvm"]),
        ("port", BootError, ["no host port could be had"]),
    ],
)
def test_what_is_asked_for_and_fails_says_why_and_leaves_nothing(host, behaviour, kind, texts):
    with pytest.raises(kind) as error:
        host.boot(f"kvm={behaviour}", accel="kvm", heartbeat=1.0, timeout=3.0)
    for text in texts:
        assert text in str(error.value)
    assert error.value.hint
    instance = Instance("box")
    assert instance.state() is State.STOPPED
    assert left_over(instance) == set()
    assert instance.data_disk.exists()
    assert docker_contexts() == []


def test_an_interrupt_leaves_nothing(host, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(booting, "ping", interrupted)
    with pytest.raises(KeyboardInterrupt):
        host.boot("kvm=ok")
    assert Instance("box").state() is State.STOPPED
    assert left_over(Instance("box")) == set()


def test_qemu_killed_from_outside_is_noticed_and_tidied_up(host):
    host.boot("kvm=ok")
    instance = Instance("box")
    assert instance.record is not None
    os.kill(instance.record.pid, 9)
    assert wait_until(lambda: not instance.alive, 10)
    assert instance.state() is State.STALE
    assert host.boot("kvm=ok").notes == ("the previous machine ended without `inv stop`; its data disk is kept",)


BOOTER = """
import io, sys
sys.path.insert(0, {directory!r})
import pytest
from test_lifecycle import *
with pytest.MonkeyPatch.context() as patch:
    Host(patch, Path({program!r})).boot("kvm=hang", accel="kvm", timeout=60)
"""


@pytest.mark.parametrize("verb", ["boot", "stop"])
def test_a_killed_booter_leaves_a_machine_that_the_next_command_ends(host, verb):
    program = BOOTER.format(directory=str(FAKE.parent), program=host.facts.qemu.binary)
    booter = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "FAKE_QEMU": "kvm=hang"})
    instance = Instance("box")
    assert wait_until(lambda: last_lines(instance.console) == ["booted with kvm"], 20)
    assert instance.state() is State.STARTING
    with pytest.raises(InstanceError, match="is starting: another command is at it"):
        host.boot("kvm=ok")
    booter.kill()
    booter.wait()
    assert instance.state() is State.UNFINISHED
    found = instance.qemu_process()
    if verb == "stop":
        assert api.stop("box").how == "killed"
        assert instance.state() is State.STOPPED
        assert left_over(instance) == set()
    else:
        assert host.boot("kvm=ok").notes == ("the previous boot was killed half-way; its machine has been ended",)
        assert instance.qemu_process() != found


def test_stop_ends_a_boot_and_no_other_accelerator_is_tried(host):
    caught: list[BaseException] = []

    def boot() -> None:
        try:
            host.boot("kvm=hang,tcg=ok", timeout=60)
        except BootError as error:
            caught.append(error)

    thread = threading.Thread(target=boot)
    thread.start()
    instance = Instance("box")
    assert wait_until(lambda: last_lines(instance.console) == ["booted with kvm"], 20)
    start = time.monotonic()
    api.stop("box")
    thread.join(20)
    assert time.monotonic() - start < 10
    assert "was stopped while it booted" in str(caught[0])
    assert instance.state() is State.STOPPED
    assert left_over(instance) == set()


def test_a_port_in_use_is_an_error_that_names_the_option(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InstanceError, match=f"port {port} of this machine is in use") as error:
            host.boot("kvm=ok", docker_port=port)
    assert "--docker-port" in error.value.hint
    assert Instance("box").state() is State.STOPPED


def test_two_uses_of_one_port_are_refused(host):
    with pytest.raises(UsageError, match="--docker-port and --ssh-port are both 2376"):
        host.boot("kvm=ok", Image(ssh_key=Path("/image/key")), docker_port=2376, ssh_port=2376)


def test_a_wanted_port_is_not_given_away_because_another_had_it_last(host):
    ssh = Image(ssh_key=Path("/image/key"))
    first = host.boot("kvm=ok", ssh)
    last = int(first.docker_host.rpartition(":")[2])
    api.stop("box")
    second = host.boot("kvm=ok", ssh, ssh_port=last)
    assert second.ssh_port == last
    assert second.docker_host != first.docker_host


def test_a_context_of_somebody_else_is_told_and_docker_runs(host):
    meta = Path(os.environ["DOCKER_CONFIG"]) / "contexts/meta"
    host.boot("kvm=ok", name="default")
    ours = next(meta.iterdir()) / "meta.json"
    api.stop("default")
    ours.parent.mkdir()
    ours.write_text('{"Name": "cofferdam", "Metadata": {"Description": "mine"}}')
    report = host.boot("kvm=ok", name="default")
    assert report.context is None
    assert any("is left alone" in note for note in report.notes)
    api.stop("default")
    assert ours.exists()


def test_commands_on_what_is_not_there():
    for verb in (api.stop, api.remove, api.status, api.ssh):
        with pytest.raises(InstanceError) as error:
            verb("nosuch")
        assert error.value.hint
    with pytest.raises(InstanceError, match="has no log"):
        api.logs("nosuch")


def test_ssh_into_an_image_without_it(host):
    host.boot("kvm=ok")
    with pytest.raises(InstanceError, match="runs the profile default, which lets nobody in") as error:
        api.ssh("box")
    assert "--profile debug" in error.value.hint


def test_logs_follow_until_the_machine_ends(host):
    host.boot("kvm=ok")
    instance = Instance("box")
    lines = api.logs("box", lines=1, follow_on=True)
    assert next(lines) == "booted with kvm"
    with instance.console.open("a") as sink:
        sink.write("more\n")
    assert next(lines) == "more"
    api.stop("box")
    assert list(lines) == []


def test_without_inherited_sockets_the_start_is_waited_for(host, monkeypatch):
    """As on Windows, where QEMU binds its ports itself."""
    attempts = []

    def attempt() -> str:
        attempts.append(time.monotonic())
        if len(attempts) < 3:
            raise ConnectionRefusedError
        return "connected"

    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(ConnectionRefusedError):
        launch._patiently(attempt, process)
    monkeypatch.setattr(launch, "WINDOWS", True)
    assert launch._patiently(attempt, process) == "connected"
    process.kill()
    process.wait()
    attempts.clear()
    with pytest.raises(ConnectionRefusedError):
        launch._patiently(attempt, process)
    assert len(attempts) == 1, "a dead process is not waited for"
