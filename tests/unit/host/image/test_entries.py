"""What the project puts into the root: overlays, programs, units. And that the project's own files fit together."""

import json
import re

import pytest

from cofferdam.errors import BuildError
from cofferdam.profile import load_profile, profile_names
from cofferdam.rootfs.base import package_names
from cofferdam.rootfs.build import entries_digest, own_entries, removal_patterns
from cofferdam.rootfs.entries import GUEST, ROOTFS, overlay_entries, package_entries, program_entries, unit_entries
from cofferdam.tools.lists import read_list
from cofferdam_guest.apiproxy.judge.desktop import GATEWAY


def by_path(entries):
    return {entry.path: entry for entry in entries}


def test_overlay_files_keep_their_place_and_their_executable_bit(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/a.conf").write_text("a")
    (tmp_path / "etc/tool").write_text("#!")
    (tmp_path / "etc/tool").chmod(0o700)
    (tmp_path / "etc/link").symlink_to("a.conf")
    found = by_path(overlay_entries(tmp_path, {}))
    assert (found["etc/a.conf"].data, found["etc/a.conf"].mode) == (b"a", 0o644)
    assert found["etc/tool"].mode == 0o755
    assert found["etc/link"].link == "a.conf"
    assert found["etc"].directory


def test_templates_are_rendered_and_lose_their_suffix(tmp_path):
    (tmp_path / "a.conf.j2").write_text("level {{ level }}\n")
    assert by_path(overlay_entries(tmp_path, {"level": 3}))["a.conf"].data == b"level 3\n"
    with pytest.raises(BuildError, match=r"a\.conf\.j2.*level"):
        list(overlay_entries(tmp_path, {}))


def test_an_overlay_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(BuildError, match="no overlay"):
        list(overlay_entries(tmp_path / "none", {}))


@pytest.mark.parametrize("isolated", [True, False])
def test_the_runtime_takes_every_name_of_runc_or_none(tmp_path, isolated):
    (tmp_path / "runc").write_text("#!ours")
    (tmp_path / "agent").write_text("#!agent")
    found = by_path(program_entries(tmp_path, isolated=isolated))
    assert found["usr/lib/cofferdam/agent"].mode == 0o755
    assert ("usr/bin/runc" in found) is isolated
    if isolated:
        assert found["usr/bin/runc"].data == b"#!ours"
        assert found["usr/sbin/runc"].link == "../bin/runc"


def test_units_are_started_and_masked_by_the_lists(tmp_path):
    (tmp_path / "x.service").write_text("[Unit]\n")
    found = by_path(unit_entries(tmp_path, ["sysinit.target x.service"], ["getty@.service"]))
    assert found["usr/lib/systemd/system/x.service"].data == b"[Unit]\n"
    assert found["usr/lib/systemd/system/sysinit.target.wants/x.service"].link == "../x.service"
    assert found["etc/systemd/system/getty@.service"].link == "/dev/null"
    assert found["usr/lib/systemd/system/default.target"].link == "cofferdam.target"
    with pytest.raises(BuildError, match="TARGET UNIT"):
        list(unit_entries(tmp_path, ["x.service"], []))


def test_only_code_of_the_package_is_installed(tmp_path):
    for name in ("a.py", "b.txt", "sub/c.py", "sub/__pycache__/c.cpython-313.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    prefix = "usr/lib/python3/dist-packages/cofferdam_guest/"
    assert sorted(by_path(package_entries(tmp_path))) == [
        f"{prefix}{name}" for name in ("a.py", "sub/__pycache__/c.cpython-313.pyc", "sub/c.py")
    ]


def test_a_list_ignores_comments_and_empty_lines(tmp_path):
    (tmp_path / "x.list").write_text("# why\none\n\n  two  \n# three\n")
    assert read_list(tmp_path / "x.list") == ["one", "two"]
    with pytest.raises(BuildError, match=r"y\.list"):
        read_list(tmp_path / "y.list")


def test_every_list_says_why_in_its_first_line():
    lists = [*ROOTFS.rglob("*.list")]
    assert len(lists) > 5
    assert [str(path) for path in lists if not re.match(r"# \w.{20,}", path.read_text())] == []


@pytest.mark.parametrize("name", profile_names())
def test_profiles_name_lists_and_overlays_that_exist(name):
    profile = load_profile(name)
    assert {"systemd", "docker.io", "crun"} <= set(package_names(profile.packages))
    assert own_entries(profile)
    assert "usr/lib/systemd/system/*.wants" in removal_patterns(profile)


def test_only_profiles_with_ssh_install_a_server():
    assert "openssh-server" in package_names(load_profile("debug").packages)
    assert "openssh-server" not in package_names(load_profile("default").packages)


def test_docker_knows_the_engines_names_only_where_it_is():
    def config(name):
        return json.loads(by_path(own_entries(load_profile(name)))["etc/docker/daemon.json"].data)

    isolated, baseline = config("default"), config("baseline")
    assert {name: runtime["path"] for name, runtime in isolated.pop("runtimes").items()} == {
        "cofferdam": "/usr/bin/runc",
        "sysbox-runc": "/usr/bin/runc",
    }
    assert baseline == isolated
    assert isolated["host-gateway-ip"] == GATEWAY
    assert isolated["builder"]["entitlements"] == {"network-host": False, "security-insecure": False, "device": False}


def test_programs_named_by_our_units_are_installed():
    entries = by_path(own_entries(load_profile("debug")))
    ours = set()
    for path in sorted((GUEST / "systemd").iterdir()):
        ours |= set(re.findall(r"^Exec\w+=[-+!:@]*/(usr/lib/cofferdam/\S+)", path.read_text(), re.MULTILINE))
    assert len(ours) >= 3
    assert [path for path in ours if path not in entries or entries[path].mode != 0o755] == []


def test_what_starts_by_itself_is_a_unit_of_ours_or_systemds():
    units = {path.name for path in (GUEST / "systemd").iterdir()}
    for line in read_list(ROOTFS / "units.list"):
        _, unit = line.split()
        assert unit in units or unit.startswith(("systemd-", "sys-", "tmp.")), line


def test_the_digest_sees_content_mode_and_links():
    profile = load_profile("default")
    entries = own_entries(profile)
    changed = [entry for entry in entries if entry.path != "etc/hostname"]
    assert entries_digest(entries) == entries_digest(own_entries(profile))
    assert entries_digest(entries) != entries_digest(changed)
