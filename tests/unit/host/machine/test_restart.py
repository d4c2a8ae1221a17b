"""What one boot leaves to the next: restart, stored sizes, the disk of a deleted instance; with the stand-in for QEMU."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from cofferdam.errors import BootError, CofferdamError, InstanceError, UsageError
from cofferdam.machine import api
from cofferdam.machine.hostos import process_start, wait_until
from cofferdam.machine.instance import Instance
from cofferdam.machine.resize import resize
from cofferdam.machine.settings import Sizes
from cofferdam.progress import Progress
from unit.host.machine import test_lifecycle as lifecycle
from unit.host.machine.test_lifecycle import Image, docker_contexts

host = lifecycle.host
SHELL, SLEEP = (shutil.which(name) for name in ("sh", "sleep"))


def test_restart_repeats_the_latest_boot(host, tmp_path, monkeypatch):
    policy = tmp_path / "company.json"
    policy.write_text("{}")
    monkeypatch.chdir(tmp_path)
    first = host.boot("kvm=ok,tcg=ok", Image("debug"), profile="debug", accel="tcg", cpus=3, memory=512, policy="company.json")
    monkeypatch.chdir("/")
    pid = api.status("box")[0]["pid"]
    stopped, second = api.restart("box", Progress(quiet=True), image=Image("debug"))
    (row,) = api.status("box")
    assert stopped is not None
    assert stopped.how == "guest"
    assert row["pid"] != pid
    assert (row["profile"], row["accelerator"], row["cpus"], row["memory"]) == ("debug", "tcg", 3, 512)
    assert row["policy"]["file"] == str(policy)
    assert second.docker_host == first.docker_host


def test_restart_shares_the_same_directories_or_none_again(host, tmp_path, monkeypatch):
    """The server is a stand-in here, too: it waits for its connection."""
    programs, baked, shared = tmp_path / "no-programs", tmp_path / "admin-settings.json", Path(tempfile.mkdtemp(dir="/tmp"))
    baked.write_text("{}")
    server = programs / "virtiofsd"
    server.write_text(f'#!{SHELL}\ncase "$1" in --version) echo virtiofsd 1.13.0;; *) exec {SLEEP} 600;; esac\n')
    server.chmod(0o755)
    (programs / "sh").symlink_to(SHELL)
    (programs / "unshare").write_text(f'#!{SHELL}\nwhile case "$1" in -*) ;; *) false;; esac; do shift; done; exec "$@"\n')
    (programs / "unshare").chmod(0o755)
    (programs / "true").symlink_to(shutil.which("true", path=os.defpath))
    monkeypatch.chdir(shared)
    first = host.boot("kvm=ok", Image(policy=baked), shares=[".:ro"])
    assert first.shares == (f"{shared}:ro",)
    monkeypatch.chdir("/")
    (served,) = Instance("box").record.shares
    assert process_start(served.pid) == served.process_start
    _, second = api.restart("box", Progress(quiet=True), image=Image(policy=baked))
    assert second.shares == first.shares
    assert process_start(served.pid) is None, "nobody was connected to it"
    (row,) = api.status("box")
    assert row["shares"] == [{"path": str(shared), "read_only": True}]
    assert "note" not in row
    shared.rename(f"{shared}.away")
    with pytest.raises(UsageError, match=f"--share {shared}: there is no such directory"):
        api.restart("box", Progress(quiet=True), image=Image(policy=baked))
    assert api.status("box")[0]["pid"] == row["pid"], "it was not stopped"
    Path(f"{shared}.away").rename(shared)
    (served,) = Instance("box").record.shares
    os.kill(served.pid, signal.SIGKILL)
    assert wait_until(lambda: process_start(served.pid) is None, 20)
    assert f"the server of the shared directory {shared} has ended" in api.status("box")[0]["note"]
    api.stop("box")
    host.boot("kvm=ok", Image(policy=baked), shares=())
    _, third = api.restart("box", Progress(quiet=True), image=Image(policy=baked))
    assert third.shares == ()
    shared.rmdir()


def test_restart_of_a_stopped_one_boots_it_and_a_disk_size_is_not_asked_for_again(host):
    host.boot("kvm=ok", cpus=3)
    api.stop("box")
    report = resize("box", Sizes(data_disk=128 * 2**20))
    assert report.lines()[0] == "data disk      grown from 64M to 128M"
    stopped, _ = api.restart("box", Progress(quiet=True), image=Image())
    assert stopped is None
    assert api.status("box")[0]["cpus"] == 3
    assert Instance("box").data_disk.stat().st_size == 128 * 2**20


@pytest.mark.parametrize("wrong", ["image", "policy"])
def test_a_restart_that_cannot_work_stops_nothing(host, tmp_path, monkeypatch, wrong):
    policy = tmp_path / "company.json"
    policy.write_text("{}")
    host.boot("kvm=ok", policy=str(policy))
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    if wrong == "policy":
        policy.unlink()
    pid = api.status("box")[0]["pid"]
    with pytest.raises(CofferdamError, match="no image of profile" if wrong == "image" else r"company\.json"):
        api.restart("box", Progress(quiet=True), image=None if wrong == "image" else Image())
    assert api.status("box")[0]["pid"] == pid


def test_restart_needs_a_boot_that_went_well(host):
    with pytest.raises(InstanceError, match="there is no instance `box`"):
        api.restart("box", Progress(quiet=True), image=Image())
    with pytest.raises(BootError):
        host.boot("kvm=panic", accel="kvm")
    with pytest.raises(InstanceError, match="was never booted") as error:
        api.restart("box", Progress(quiet=True), image=Image())
    assert "inv boot --name box" in error.value.hint


def test_stored_sizes_hold_for_later_boots_and_a_boots_own_are_not_stored(host):
    host.boot("kvm=ok", cpus=3, memory=512)
    report = resize("box", Sizes(cpus=2, data_disk=128 * 2**20))
    assert report.lines() == [
        "cpus           2, from the next boot on",
        "data disk      grown from 64M to 128M; the running guest's file system has 127M now",
        "next           inv restart --name box applies processors and memory: the instance runs",
    ]
    assert Instance("box").data_disk.stat().st_size == 128 * 2**20
    _, booted = api.restart("box", Progress(quiet=True), image=Image())
    assert booted.notes == ()
    assert [api.status("box")[0][key] for key in ("cpus", "memory")] == [2, 512]
    api.stop("box")
    host.boot("kvm=ok", cpus=1, data_disk=None)
    assert api.status("box")[0]["cpus"] == 1
    api.stop("box")
    host.boot("kvm=ok", data_disk=None)
    assert api.status("box")[0]["cpus"] == 2


def test_the_disk_of_a_deleted_instance_is_used_by_its_next_boot(host):
    first = host.boot("kvm=ok")
    instance = Instance("box")
    key = (first.cert_path / "key.pem").read_bytes()
    with instance.data_disk.open("r+b") as disk:
        disk.write(b"data")
    assert api.delete("box").kept
    assert docker_contexts() == []
    assert api.status("box")[0]["state"] == "deleted"
    assert not instance.credentials.exists()
    second = host.boot("kvm=ok", data_disk=None)
    assert second.notes == ("the data disk of the deleted instance of this name is used again",)
    assert (second.cert_path / "key.pem").read_bytes() != key
    assert instance.data_disk.read_bytes()[:4] == b"data"
    api.stop("box")
    assert api.status("box")[0]["state"] == "stopped"
