"""What is handed over on a disk: all of it or nothing, and the disk is gone afterwards."""

import base64
import hashlib
import os

import pytest

from cofferdam.machine import credentials
from cofferdam.machine.hyperv import handoverdisk
from cofferdam_guest.agent import configdisk, datadisk
from cofferdam_guest.agent.configdisk import HandoverError, hand_over, parse, read_once, resolvers
from cofferdam_guest.linux import scsidisk
from cofferdam_guest.linux.scsidisk import DiskMissing, await_disk, find_disk, on_hyperv

PREFIX = configdisk.PREFIX


def disk(*lines: bytes, magic: bytes = configdisk.MAGIC) -> bytes:
    payload = b"".join(line + b"\n" for line in lines)
    return b"%s %d %s\n%s" % (magic, len(payload), hashlib.sha256(payload).hexdigest().encode(), payload) + bytes(4096)


def line(name: str, value: bytes) -> bytes:
    return PREFIX + name.encode() + b"=" + base64.b64encode(value)


GOOD = disk(line("tls-ca", b"authority"), line("resolver", b"192.0.2.1\n192.0.2.2"))


def test_what_is_there_is_found():
    assert parse(GOOD) == {"tls-ca": b"authority", "resolver": b"192.0.2.1\n192.0.2.2"}
    assert parse(disk()) == {}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "does not begin"),
        (bytes(8192), "does not begin"),
        (b"\xff" * 8192, "does not begin"),
        (GOOD.replace(b"handover 1", b"handover 2", 1), "does not begin"),
        (b"cofferdam-handover 1 -5 x\n", "does not begin"),
        (b"cofferdam-handover 1 9999999 x\n", "does not begin"),
        (GOOD.replace(b"tls-ca", b"tls-cb", 1), "damaged"),
        (GOOD[:150], "cut"),
        (disk(line("tls-ca", b"a"), line("root-password", b"x")), "nothing here expects"),
        (disk(line("tls-ca", b"a"), line("tls-ca", b"b")), "nothing here expects"),
        (disk(b"io.systemd.credential:passwd.hashed-password.root=x"), "nothing here expects"),
        (disk(PREFIX + b"../../etc/passwd=YQ=="), "nothing here expects"),
        (disk(PREFIX + b"tls-ca=YQ="), "not base64"),
        (disk(PREFIX + b"tls-ca=Y\x00Q=="), "not base64"),
        (disk(PREFIX + b"tls-\xff=YQ=="), "nothing here expects"),
        (disk(b""), "nothing here expects"),
    ],
)
def test_anything_else_hands_over_nothing(data, text):
    with pytest.raises(HandoverError, match=text):
        parse(data)


def test_resolvers_are_addresses():
    assert resolvers(b"") == ""
    assert resolvers(b"192.0.2.1\n192.0.2.2") == "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"
    assert resolvers(b"1.1.1.1 2.2.2.2 3.3.3.3 4.4.4.4").count("nameserver") == 3
    for bad in (b"x", b"192.0.2.1\noptions", b"::1", b"192.0.2.01", b"\xff"):
        with pytest.raises(HandoverError, match="resolvers"):
            resolvers(bad)


def test_only_root_reads_what_units_import(tmp_path):
    store, resolv = tmp_path / "store", tmp_path / "run/resolv.conf"
    assert hand_over(parse(GOOD), str(store), str(resolv))
    assert {path.name: path.read_bytes() for path in store.iterdir()} == {"cofferdam.tls-ca": b"authority"}
    assert store.stat().st_mode & 0o777 == 0o700
    assert (store / "cofferdam.tls-ca").stat().st_mode & 0o777 == 0o600
    assert resolv.read_text() == "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"
    assert resolv.stat().st_mode & 0o777 == 0o644
    with pytest.raises(FileExistsError):
        hand_over(parse(GOOD), str(store), str(resolv))


def test_without_resolvers_the_image_s_own_stay(tmp_path):
    assert not hand_over({"tls-ca": b"a"}, str(tmp_path / "store"), str(tmp_path / "resolv.conf"))
    assert not (tmp_path / "resolv.conf").exists()


def test_a_bad_resolver_hands_over_nothing(tmp_path):
    with pytest.raises(HandoverError):
        hand_over({"tls-ca": b"a", "resolver": b"x"}, str(tmp_path / "store"), str(tmp_path / "resolv.conf"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("there", [True, False])
def test_the_disk_is_taken_off_whatever_is_on_it(tmp_path, there):
    (tmp_path / "sys/sdc/device").mkdir(parents=True)
    switch = tmp_path / "sys/sdc/device/delete"
    if there:
        (tmp_path / "sdc").write_bytes(b"x" * (configdisk.LIMIT + 1))
        assert read_once("sdc", str(tmp_path), str(tmp_path / "sys")) == b"x" * configdisk.LIMIT
    else:
        with pytest.raises(FileNotFoundError):
            read_once("sdc", str(tmp_path), str(tmp_path / "sys"))
    assert switch.read_text() == "1"


def test_host_and_guest_know_the_same_names():
    named = {credentials.POLICY_FILE, credentials.AUTHORITIES_FILE, credentials.NETWORK_FILE, credentials.SHARES_FILE}
    assert {*credentials.SERVER_FILES, *named} == configdisk.CREDENTIALS
    assert (configdisk.MAGIC, configdisk.RESOLVER) == (handoverdisk.MAGIC, handoverdisk.RESOLVER)


def test_a_failure_says_so_and_ends_with_1(monkeypatch, capsys):
    def missing(place, seconds):
        raise DiskMissing("there is no disk")

    monkeypatch.setattr(configdisk, "await_disk", missing)
    assert configdisk.main() == 1
    assert capsys.readouterr().err == "cofferdam: nothing is handed over: there is no disk.\n"


@pytest.fixture
def disks(tmp_path):
    for address, name in (("0:0:0:0", "sdb"), ("0:0:0:1", "sda"), ("0:0:0:12", "sdd")):
        (tmp_path / address / "device/block" / name).mkdir(parents=True)
    return tmp_path


def test_a_disk_is_known_by_its_place_and_not_its_letter(disks):
    assert find_disk(0, str(disks)) == "sdb"
    assert find_disk(1, str(disks)) == "sda"
    assert find_disk(2, str(disks)) is None
    assert find_disk(0, str(disks / "none")) is None
    (disks / "0:0:0:2/device").mkdir(parents=True)
    assert find_disk(2, str(disks)) is None, "not announced yet"
    (disks / "1:0:0:1/device/block/sde").mkdir(parents=True)
    with pytest.raises(DiskMissing, match="several"):
        find_disk(1, str(disks))


def test_a_disk_that_does_not_come(disks):
    with pytest.raises(DiskMissing, match="no disk at place 7"):
        await_disk(7, 0.0, str(disks))


def test_a_machine_is_hyper_vs_when_it_has_its_bus(tmp_path):
    assert not on_hyperv(str(tmp_path / "none"))
    assert not on_hyperv(str(tmp_path))
    (tmp_path / "device").mkdir()
    assert on_hyperv(str(tmp_path))
    assert not on_hyperv(), "this is none"


def test_the_data_disk_is_the_second_one(monkeypatch):
    assert datadisk.device() == datadisk.DEVICE
    monkeypatch.setattr(scsidisk, "on_hyperv", lambda: True)
    monkeypatch.setattr(scsidisk, "await_disk", lambda place, seconds: {1: "sdx"}[place])
    assert datadisk.device() == "/dev/sdx"

    def missing(place, seconds):
        raise DiskMissing("none")

    monkeypatch.setattr(scsidisk, "await_disk", missing)
    with pytest.raises(datadisk.DiskError, match="no data disk"):
        datadisk.device()
    assert os.path.isabs(datadisk.DEVICE)
