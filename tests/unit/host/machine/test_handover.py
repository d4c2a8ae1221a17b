"""What a boot hands over beside the keys reaches the guest, is gone with a boot without it, and is there again after a restart."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from cofferdam.errors import UsageError
from cofferdam.machine import api
from cofferdam.machine.handover import LIMIT, handover
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.settings import BootSettings, boot_settings
from cofferdam.policy import boot_policy
from cofferdam.progress import Progress
from cofferdam_guest.config.network import from_json
from unit.host.machine import test_authorities as authorities
from unit.host.machine import test_lifecycle as lifecycle
from unit.host.machine.test_lifecycle import Image

host = lifecycle.host


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "company.pem"
    file.write_bytes(authorities.certificate(end=100_000, begin=-10_000))
    return file


def given(name: str) -> bytes | None:
    """A credential as QEMU gives it to the guest; none when it is not on its command line."""
    path = Instance("box").credentials / "smbios" / name
    record = Instance("box").record
    if f"path={path}\0" not in Path(f"/proc/{record.pid}/cmdline").read_text():
        assert not path.exists()
        return None
    kind, _, text = path.read_text().partition("=")
    assert kind == f"io.systemd.credential.binary:cofferdam.{name}"
    return base64.b64decode(text)


def test_handed_over_remembered_and_gone(host, root, monkeypatch):
    monkeypatch.chdir(root.parent)
    report = host.boot("kvm=ok", ca_files=[root.name], proxy="http://me:s3cret@localhost:3128", mtu=1400)
    monkeypatch.chdir("/")
    for _ in ("boot", "restart"):
        assert given("ca") == root.read_bytes()
        network = from_json(given("network"))
        assert (network.proxies["https"], network.mtu) == ("http://me:s3cret@10.0.2.2:3128", 1400)
        assert report.proxy == "10.0.2.2:3128 (from --proxy)"
        assert "proxy          10.0.2.2:3128" in "\n".join(report.lines())
        assert "host_mtu=1400" in Path(f"/proc/{Instance('box').record.pid}/cmdline").read_text()
        _, report = api.restart("box", Progress(quiet=True), image=Image())
    shown = json.dumps([api.status("box"), report.as_dict(), report.lines()], default=str)
    shown += (Instance("box").directory / "boot.json").read_text()
    shown += Path(f"/proc/{Instance('box').record.pid}/cmdline").read_text()
    assert "s3cret" not in shown
    api.stop("box")
    assert host.boot("kvm=ok").proxy == ""
    assert (given("ca"), given("network")) == (None, None)


def test_the_environment_is_that_of_each_boot(host, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://one:1")
    host.boot("kvm=ok")
    assert from_json(given("network")).proxies == {"https": "http://one:1"}
    monkeypatch.setenv("https_proxy", "http://two:2")
    api.restart("box", Progress(quiet=True), image=Image())
    assert from_json(given("network")).proxies == {"https": "http://two:2"}
    api.stop("box")
    host.boot("kvm=ok", proxy="none")
    assert given("network") is None


@pytest.mark.parametrize("wrong", [{"ca_files": ["/nowhere"]}, {"proxy": "socks5://me:s3cret@x:1"}])
def test_what_cannot_be_used_boots_nothing(host, wrong):
    with pytest.raises(UsageError) as error:
        host.boot("kvm=ok", **wrong)
    assert "s3cret" not in str(error.value)
    assert Instance("box").state() is State.ABSENT


def test_a_restart_that_cannot_hand_over_stops_nothing(host, root):
    host.boot("kvm=ok", ca_files=[str(root)])
    root.unlink()
    pid = api.status("box")[0]["pid"]
    with pytest.raises(UsageError, match=r"company\.pem: No such file"):
        api.restart("box", Progress(quiet=True), image=Image())
    assert api.status("box")[0]["pid"] == pid


def test_all_of_it_has_a_limit(tmp_path, root):
    policy = tmp_path / "policy.json"
    policy.write_text("{" + " " * (30 * 1024) + "}")
    more = tmp_path / "more.pem"
    more.write_bytes(b"".join(authorities.certificate(f"R{number}", -10_000, 100_000) for number in range(30)))
    with pytest.raises(UsageError, match=f"there is room for {LIMIT}"):
        handover(BootSettings(ca_files=(more,)), boot_policy(policy))
    assert handover(BootSettings(ca_files=(root,)), boot_policy(policy)).files["ca"] == root.read_bytes()


@pytest.mark.parametrize("mtu", ["575", "9001", "large"])
def test_an_mtu_that_cannot_be(mtu):
    with pytest.raises(UsageError, match=f"--mtu {mtu}: "):
        boot_settings(mtu=mtu)


def test_options_that_were_not_given_take_their_defaults():
    assert boot_settings(mtu="", ca_files=[], proxy="", socket="") == BootSettings()
    assert boot_settings(ca_files=["~/a.pem"]).ca_files == (Path.home() / "a.pem",)
