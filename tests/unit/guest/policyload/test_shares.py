"""Shares: what the policy allows is mounted where it lies on the desktop, whatever else is offered is not, and the journal says why."""

from __future__ import annotations

import os

import pytest

from cofferdam_guest.config import shares as config
from cofferdam_guest.config.shares import ROOTS, Share, ShareError, Shares, allowed, from_json, problem
from cofferdam_guest.policyload import shares as module
from cofferdam_guest.policyload.shares import mount_shares

HOME = {"$HOME": "/home/me"}
NOSUID_NODEV = 0x2 | 0x4
READ_ONLY = 0x1


@pytest.fixture
def vm(tmp_path, monkeypatch):
    """A VM whose directories for shares lie below a temporary one; `mounts` are the calls of mount(2)."""

    class Vm:
        def __init__(self):
            self.mounts, self.lines, self.directories = [], [], []

        def offer(self, *shares, folders=None, text=None):
            document = tmp_path / "shares.json"
            document.write_text(Shares(shares, HOME).to_json() if text is None else text)
            return mount_shares(folders, self.lines.append, path=str(document), mount=lambda *words: self.mounts.append(words))

    made = Vm()
    monkeypatch.setattr(module, "_make", made.directories.append)
    monkeypatch.setattr(module.os.path, "ismount", lambda path: path == "/tmp")
    return made


def test_a_share_is_mounted_at_its_own_path_without_setuid_and_devices(vm):
    assert vm.offer(Share("/home/me", tag="share0")) == ["/home/me"]
    assert [words[:3] for words in vm.mounts] == [
        ("tmpfs", "/home", "tmpfs"),
        ("share0", "/home/me", "virtiofs"),
        ("tmpfs", "/home", "tmpfs"),
    ]
    assert vm.mounts[1][3] == NOSUID_NODEV
    assert vm.mounts[2][3] & READ_ONLY, "what is beside a share cannot be written"


def test_a_root_itself_needs_no_room_and_the_vms_own_is_no_room(vm):
    assert vm.offer(Share("/root", tag="a"), Share("/tmp/x/y", True, "b")) == ["/root", "/tmp/x/y"]
    assert [words[:3] for words in vm.mounts] == [("a", "/root", "virtiofs"), ("b", "/tmp/x/y", "virtiofs")]
    assert vm.directories == ["/tmp/x/y"]
    assert vm.mounts[1][3] == NOSUID_NODEV | READ_ONLY


def test_the_policy_decides(vm):
    offered = [Share("/home/me/work", tag="a"), Share("/home/you", tag="b"), Share("/data/x", tag="c")]
    assert vm.offer(*offered, folders=("$HOME", "/data")) == ["/home/me/work", "/data/x"]
    assert vm.lines == ["shares: /home/you is not shared: filesharingAllowedDirectories of the policy does not have it"]
    assert not [words for words in vm.mounts if words[0] == "b"]


@pytest.mark.parametrize("folders", [(), ("$TMP",), ("$HOME2",), ("relative",), ("/home/m",), ("$",)])
def test_folders_that_mean_nothing_here_allow_nothing(vm, folders):
    assert vm.offer(Share("/home/me", tag="a"), folders=folders) == []
    assert vm.mounts == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/etc",
        "/usr/x",
        "/var/lib",
        "/run/x",
        "/home/../etc",
        "//home/x",
        "/home/me/",
        "home/me",
        "/tmp",
        "/etc/../home/x",
        "/home/a\nb",
    ],
)
def test_no_share_covers_what_is_the_vms(vm, path):
    assert vm.offer(Share(path, tag="a")) == []
    assert vm.mounts == []
    assert len(vm.lines) == 1


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"version": 2, "variables": {}, "shares": []}',
        '{"version": 1, "variables": {}, "shares": [{"path": "/home/me"}]}',
        '{"version": 1, "variables": {}, "shares": [{"path": "/home/me", "tag": "a", "read_only": 0}]}',
        '{"version": 1, "variables": {"$HOME": 1}, "shares": []}',
        '{"version": 1, "variables": {}, "shares": {}}',
    ],
)
def test_another_document_shares_nothing_and_says_so(vm, text):
    assert vm.offer(text=text) == []
    assert vm.mounts == [] and len(vm.lines) == 1
    with pytest.raises(ShareError):
        from_json(text)


def test_no_document_and_an_empty_one_are_no_shares(vm, tmp_path):
    assert mount_shares(None, vm.lines.append, path=str(tmp_path / "none"), mount=None) == []
    assert vm.offer(text="") == []
    assert vm.lines == []


def test_a_share_that_does_not_mount_is_left_out(vm, tmp_path):
    def mount(source, *_):
        if source == "a":
            raise OSError(22, "Invalid argument")

    (tmp_path / "shares.json").write_text(Shares((Share("/root", tag="a"), Share("/mnt", tag="b"))).to_json())
    assert mount_shares(None, vm.lines.append, path=str(tmp_path / "shares.json"), mount=mount) == ["/mnt"]
    assert vm.lines == ["shares: /root is not shared: Invalid argument"]


def test_directories_on_the_way_can_be_entered_whatever_the_services_umask(tmp_path):
    old = os.umask(0o077)
    try:
        module._make(f"{tmp_path}/a/b")
    finally:
        assert os.umask(old) == 0o077
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o755, 0o755]


def test_what_is_written_reads_back_the_same():
    offered = Shares((Share("/home/m e/ü", True, "a"), Share("/mnt", False, "b")), {"$HOME": "/home/m e"})
    assert from_json(offered.to_json()) == offered


def test_no_root_is_a_directory_that_the_vm_lives_by():
    assert not {"/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/var"} & set(ROOTS)
    assert all(problem(f"{root}/x") == "" for root in ROOTS)


def test_folders_cover_what_is_below_them_and_no_neighbour():
    assert allowed("/home/me", ("$HOME/",), HOME)
    assert allowed("/home/me/a", ("/home/me/../me",), HOME)
    assert not allowed("/home/meg", ("$HOME",), HOME)
    assert config.allowed("/anything", None, {})
