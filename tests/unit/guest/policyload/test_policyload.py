"""The loader: what is written for proxy, engine and dockerd; and that whatever is wrong denies everything and says why."""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from cofferdam_guest.config import engine
from cofferdam_guest.config.policy import Policy, deny_all, from_json
from cofferdam_guest.policyload import main as module
from cofferdam_guest.policyload.documents import daemon_document, engine_document
from cofferdam_guest.policyload.main import Places, load

OVERLAY = Path(__file__).parents[4] / "vm/rootfs/overlay/base"
BAKED = {
    "enhancedContainerIsolation": {"locked": True, "value": True, "dockerSocketMount": {"imageList": {"images": ["docker:cli"]}}},
    "blockDockerLoad": {"locked": False, "value": True},
    "linuxVM": {"dockerDaemonOptions": {"locked": True, "value": '{"mtu": 1400, "hosts": ["tcp://0.0.0.0"]}'}},
    "cofferdam": {"restrictedMounts": {"allowReadOnly": ["/srv/tools"], "deny": ["/host/secret"]}},
}
DAEMON = {"log-driver": "json-file", "log-opts": {"max-size": "10m"}, "builder": {"entitlements": {"network-host": False}}}
FILES = ("effective.json", "engine.json", "daemon.json", "network.json")
SYSTEM = "-----BEGIN CERTIFICATE-----\nc3lzdGVt\n-----END CERTIFICATE-----\n"
DAEMON |= {"features": {"buildkit": True}, "exec-opts": ["native.cgroupdriver=cgroupfs"]}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    names = ("image.json", "boot/boot.json", "engine.json", "daemon.json", "boot/shares.json", "out/policy")
    names += ("boot/network.json", "boot/ca.pem", "system.crt", "run/ca.pem")
    made = Places(*(str(tmp_path / name) for name in names))
    (tmp_path / "boot").mkdir()
    Path(made.system).write_text(SYSTEM)
    Path(made.baked).write_text(json.dumps(BAKED))
    Path(made.daemon).write_text(json.dumps(DAEMON))
    shutil.copy(OVERLAY / engine.BAKED.lstrip("/"), made.settings)
    return made


def loaded(places: Places) -> tuple[Policy, dict, dict, list[str]]:
    """The policy as the proxy reads it, the two documents, the journal's lines."""
    lines: list[str] = []
    load(places, lines.append)
    texts = {name: Path(places.out, name).read_text() for name in FILES}
    assert sorted(os.listdir(places.out)) == sorted(texts), "nothing else is left behind"
    return from_json(texts["effective.json"]), json.loads(texts["engine.json"]), json.loads(texts["daemon.json"]), lines


def test_the_images_policy_alone(places):
    policy, settings, daemon, lines = loaded(places)
    assert (policy.denied, policy.sources) == ("", ("image",))
    assert policy.socket_images == ("docker.io/library/docker:cli",)
    assert settings["mounts"]["allow_read_only"] == [
        "/usr/bin/docker-init",
        "/run/cofferdam/ca.pem",
        "/usr/lib/modules",
        "/srv/tools",
    ]
    assert settings["mounts"]["deny"] == ["/host/secret"]
    assert engine.load(f"{places.out}/engine.json").deny == ("/host/secret",)
    assert daemon == {**DAEMON, "mtu": 1400, "labels": [f"cofferdam.policy={policy.sha256[:12]}"]}
    assert any("hosts" in line and line.startswith("<4>") for line in lines)
    assert lines[-1] == f"<6>policy {policy.sha256} from image"


def test_a_policy_at_boot_changes_what_is_not_locked(places):
    other = {
        "enhancedContainerIsolation": {"dockerSocketMount": {"imageList": {"images": ["*"]}}},
        "blockDockerLoad": {"value": False},
    }
    Path(places.boot).write_text(json.dumps(other))
    policy, _, _, lines = loaded(places)
    assert policy.sources == ("image", "boot")
    assert (policy.socket_images, policy.block_load) == (("docker.io/library/docker:cli",), False)
    assert any("the image locks" in line for line in lines)


def everything_is_denied(places: Places, says: str) -> None:
    policy, settings, daemon, lines = loaded(places)
    assert says in policy.denied
    assert settings == {"version": 1, "refuse": policy.denied}
    with pytest.raises(engine.SettingsError) as error:
        engine.load(f"{places.out}/engine.json")
    assert says in str(error.value)
    assert daemon["labels"] == ["cofferdam.policy=deny-all"]
    assert "mtu" not in daemon, "nothing of a policy that is not followed"
    assert lines[-1].startswith("<3>policy: everything is denied: ") and says in lines[-1]


DAMAGE = {
    "missing": (lambda path: path.unlink(), "missing"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "half-written": (lambda path: path.write_bytes(path.read_bytes()[:60]), "half-written"),
    "not UTF-8": (lambda path: path.write_bytes(b'{"\xff": 1}'), "not valid UTF-8"),
    "byte order mark": (lambda path: path.write_bytes(b"\xef\xbb\xbf{}"), "byte order mark"),
    "wrong type": (lambda path: path.write_text('{"blockDockerLoad": {"value": "yes"}}'), ":1:31: error: blockDockerLoad.value"),
    "huge": (lambda path: path.write_bytes(b" " * (2 << 20)), "larger than"),
    "deep": (lambda path: path.write_bytes(b"[" * 100_000), "levels"),
    "directory": (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
    "link": (lambda path: (path.unlink(), path.symlink_to("/dev/null")), "cannot be read"),
    "link to itself": (lambda path: (path.unlink(), path.symlink_to(path)), "cannot be read"),
    "FIFO": (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_unusable_policy_of_the_image_denies_everything(places, damage):
    harm, says = DAMAGE[damage]
    harm(Path(places.baked))
    everything_is_denied(places, says)
    assert places.baked in from_json(Path(places.out, "effective.json").read_text()).denied


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "missing"])
def test_an_unusable_policy_at_boot_denies_everything(places, damage):
    harm, says = DAMAGE[damage]
    Path(places.boot).write_text(json.dumps(BAKED))
    harm(Path(places.boot))
    everything_is_denied(places, says)
    assert places.boot in from_json(Path(places.out, "effective.json").read_text()).denied


def test_without_the_directory_of_the_boots_policy_nobody_knows_whether_there_was_one(places):
    Path(places.boot).parent.rmdir()
    everything_is_denied(places, "unknown")


@pytest.mark.parametrize("name", ["settings", "daemon"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"\xff"])
def test_an_unusable_file_of_the_image_denies_everything(places, name, content):
    path = Path(getattr(places, name))
    path.unlink() if content is None else path.write_bytes(content)
    everything_is_denied(places, "the image's own settings cannot be used")


def test_a_fault_of_the_loader_itself_denies_everything(places, monkeypatch):
    def broken(*_):
        raise RecursionError("too deep")

    monkeypatch.setattr("cofferdam_guest.policyload.decision.effective", broken)
    everything_is_denied(places, "RecursionError: too deep")


def test_files_are_for_root_only(places):
    loaded(places)
    assert stat.S_IMODE(os.stat(places.out).st_mode) == 0o700
    assert {stat.S_IMODE(os.stat(f"{places.out}/{name}").st_mode) for name in os.listdir(places.out)} == {0o600}


def test_a_second_run_replaces_what_the_first_wrote(places):
    first = loaded(places)[0]
    Path(places.baked).write_text("{}")
    os.symlink("/nonexistent", f"{places.out}/.leftover")
    os.unlink(f"{places.out}/.leftover")
    assert loaded(places)[0].sha256 != first.sha256
    Path(places.baked).unlink()
    everything_is_denied(places, "missing")


def test_no_half_written_file_is_ever_in_place(places, monkeypatch):
    """The proxy's file is replaced last and in one step: killed before, the old one is whole and the new one is not seen."""
    before = loaded(places)[0]
    Path(places.baked).write_text("{}")
    replaced = []

    def dies(source, target):
        replaced.append(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        load(places, lambda _: None)
    assert replaced == [places.bundle]
    assert from_json(Path(places.out, "effective.json").read_text()) == before


def test_a_file_that_cannot_be_written_is_an_error_of_the_unit(places):
    Path(places.out).parent.write_text("in the way")
    with pytest.raises(OSError):
        load(places, lambda _: None)


BASE_ENGINE = (OVERLAY / engine.BAKED.lstrip("/")).read_text()


def test_paths_are_not_listed_twice():
    policy = Policy(mounts_allow_read_only=("/usr/bin/docker-init", "/a"))
    listed = engine_document(BASE_ENGINE, policy)["mounts"]["allow_read_only"]
    assert listed == ["/usr/bin/docker-init", "/run/cofferdam/ca.pem", "/usr/lib/modules", "/a"]


def test_a_path_that_the_engine_cannot_take_is_not_written():
    with pytest.raises(engine.SettingsError):
        engine_document(BASE_ENGINE, Policy(mounts_deny=("/a/",)))


def daemon(**values) -> dict:
    return daemon_document(json.dumps(DAEMON), replace(Policy(), **values))


def test_a_denying_policy_leaves_dockerds_configuration_as_it_is():
    made = daemon_document(json.dumps(DAEMON), deny_all("why"))
    assert made.pop("proxies")
    assert made == {**DAEMON, "labels": ["cofferdam.policy=deny-all"]}


def test_what_isolation_sets_inside_of_builder_wins():
    made = daemon(daemon_options={"builder": {"gc": {"enabled": True}, "entitlements": {"network-host": True}}})
    assert made["builder"] == {"gc": {"enabled": True}, "entitlements": {"network-host": False}}


def test_options_of_the_log_driver_go_with_it():
    assert daemon(daemon_options={"log-opts": {"max-file": "9"}})["log-opts"] == {"max-size": "10m", "max-file": "9"}
    other = daemon(daemon_options={"log-driver": "journald"})
    assert (other["log-driver"], "log-opts" in other) == ("journald", False)
    with_options = daemon(daemon_options={"log-driver": "syslog", "log-opts": {"syslog-address": "udp://10.0.0.1:514"}})
    assert with_options["log-opts"] == {"syslog-address": "udp://10.0.0.1:514"}


def test_features_and_labels_are_joined():
    made = daemon(daemon_options={"features": {"buildkit": False}, "labels": ["team=a"]})
    assert made["features"] == {"buildkit": False}
    assert made["labels"][0] == "team=a" and made["labels"][1].startswith("cofferdam.policy=")


@pytest.mark.parametrize("values", [{"registries": ()}, {"registries": ("docker.io",)}, {"proxies": {"https": "http://p:2"}}])
def test_dockerds_own_connections_go_through_the_filter(values):
    way = "http://127.0.0.1:3128"
    assert daemon(**values)["proxies"] == {"http-proxy": way, "https-proxy": way}
    assert "proxies" not in daemon()
