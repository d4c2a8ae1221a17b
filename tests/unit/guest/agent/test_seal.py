"""The encryption of the data disk: what is done by what is on it, what a boot was measured as, and what is never written over."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

import cofferdam_guest
from cofferdam_guest.agent import seal
from cofferdam_guest.agent.programs import DiskError
from cofferdam_guest.config.seal import MAKING, luks_label

MIB = 2**20
KEY = "-----BEGIN PUBLIC KEY-----\n"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


def header(label):
    return (b"LUKS\xba\xbe\x00\x02" + bytes(16) + label.encode().ljust(48, b"\0")).ljust(4096, b"\1")


class Machine:
    """The files that the module looks at; programs are recorded, and fail when they are told to."""

    def __init__(self, path, monkeypatch):
        self.path, self.ran, self.failing = path, [], ()
        self.device = str(path / "vdb")
        self.part = path / "vda4"
        names = {"TPM": "tpm", "COMMAND_LINE": "cmdline", "KEY": "key", "DRAFT": "draft", "LOCKS": "locks"}
        for name, file in {**names, "SIGNATURE": "run/signature", "PUBLIC_KEY": "run/key.pem", "BLOCKS": "block"}.items():
            monkeypatch.setattr(seal, name, str(path / file))
        monkeypatch.setattr(seal, "_partition", lambda: str(self.part))
        monkeypatch.setattr(seal, "call", self.call)
        self.write("tpm", b"")
        self.write("cmdline", f"ro cofferdam.seal={DIGEST} -- cofferdam.seal=appended\n".encode())
        self.part.write_bytes(json.dumps({"public_key": KEY, "signature": {"sha256": []}}).encode().ljust(65536, b"\0"))

    def write(self, name, data):
        (self.path / name).write_bytes(data)

    def disk(self, data):
        with open(self.device, "wb") as sink:
            sink.write(data)
            sink.truncate(32 * MIB)

    def call(self, *argv, good=(0,)):
        self.ran.append(argv)
        if argv[1] in self.failing:
            self.failing = ()
            raise DiskError(f"{argv[1]} failed")
        if argv[1] == "luksFormat":
            with open(argv[-1], "r+b") as draft:
                draft.write(header(MAKING) + b"\2" * MIB)

    def unlock(self, *, blank=False):
        return seal.unlock(self.device, lambda device: self.ran.append(("mkfs", device)), blank=blank)

    @property
    def verbs(self):
        return [argv[1] if argv[0] == seal.CRYPTSETUP else os.path.basename(argv[0]) for argv in self.ran]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_without_a_tpm_or_a_signed_word_nothing_is_sealed(machine):
    machine.disk(b"")
    for text in (b"ro --\n", b"ro -- cofferdam.seal=appended\n", b"cofferdam.seal=nothing-ends-it\n"):
        machine.write("cmdline", text)
        assert seal.signer() is None
    assert machine.unlock(blank=True) == machine.device
    machine.write("cmdline", b"cofferdam.seal=a --\n")
    assert seal.signer() == "a"
    os.unlink(seal.TPM)
    assert machine.unlock(blank=True) == machine.device
    assert machine.ran == []


@pytest.mark.parametrize("lost", ["tpm", "word"])
def test_a_disk_that_is_to_be_sealed_is_not_made_plain(machine, lost):
    """The host has handed over the key of a boot with a TPM, and the guest sees none, or nothing signed."""
    machine.disk(b"")
    machine.write("key", b"k")
    if lost == "tpm":
        os.unlink(seal.TPM)
    else:
        machine.write("cmdline", b"ro --\n")
    with pytest.raises(DiskError, match=r"is to be sealed.*nothing was written"):
        machine.unlock(blank=True)
    assert machine.ran == []


def test_a_boot_without_a_tpm_does_not_wait_for_what_only_sealing_needs():
    (top,) = {os.path.dirname(each) for each in cofferdam_guest.__path__}
    code = f"import sys; sys.path.insert(0, {top!r}); from cofferdam_guest.agent import datadisk; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert not {"hashlib", "json", "re"} & set(done.stdout.split())


def test_a_blank_disk_is_sealed_and_opened_by_the_tpm_before_anything_is_in_it(machine):
    machine.disk(b"")
    machine.write("key", b"k")
    assert machine.unlock(blank=True) == seal.MAPPED
    assert machine.verbs == ["luksFormat", "systemd-cryptenroll", "open", "mkfs", "config"]
    made, enroll = machine.ran[:2]
    assert made[made.index("--label") + 1] == MAKING
    assert {"--tpm2-pcrs=7", "--tpm2-public-key-pcrs=11", f"--tpm2-signature={seal.SIGNATURE}"} <= set(enroll)
    assert "--token-only" in machine.ran[2] and "--allow-discards" in machine.ran[2]
    assert machine.ran[-1][-2:] == ("cofferdam-data", machine.device)
    with open(machine.device, "rb") as disk:
        assert luks_label(disk.read(4096)) == MAKING and disk.read(MIB) == b"\2" * MIB
    assert not os.path.exists(seal.DRAFT)


@pytest.mark.parametrize("killed", ["luksFormat", "open", "config"])
def test_a_machine_that_is_killed_while_it_makes_the_disk_begins_again(machine, killed):
    machine.disk(b"")
    machine.write("key", b"k")
    machine.failing = (killed,)
    with pytest.raises(DiskError, match=killed):
        machine.unlock(blank=True)
    machine.ran.clear()
    assert machine.unlock(blank=killed == "luksFormat") == seal.MAPPED
    assert machine.verbs[0] == "luksFormat" and machine.verbs[-1] == "config"


def test_a_disk_is_not_made_without_a_key_for_the_day_on_which_the_tpm_is_lost(machine):
    machine.disk(b"")
    with pytest.raises(DiskError, match=r"no recovery key.*without a TPM"):
        machine.unlock(blank=True)
    assert machine.ran == []


def test_a_sealed_disk_is_opened_by_the_tpm(machine):
    machine.disk(header("cofferdam-data"))
    machine.write("key", b"k")
    assert machine.unlock() == seal.MAPPED
    assert machine.verbs == ["open"]
    with open(seal.SIGNATURE) as signature, open(seal.PUBLIC_KEY) as key:
        assert (json.load(signature), key.read()) == ({"sha256": []}, KEY)


def test_a_disk_that_the_tpm_does_not_open_stays_shut(machine):
    machine.disk(header("cofferdam-data"))
    machine.failing = ("open",)
    with pytest.raises(DiskError, match=r"does not open the data disk.*--recovery-key"):
        machine.unlock()
    assert machine.verbs == ["open"]


def test_the_recovery_key_opens_it_and_it_is_sealed_anew(machine):
    machine.disk(header("cofferdam-data"))
    machine.write("key", b"k")
    machine.failing = ("open",)
    assert machine.unlock() == seal.MAPPED
    assert machine.verbs == ["open", "open", "systemd-cryptenroll", "systemd-cryptenroll"]
    assert "--token-only" not in machine.ran[1] and machine.ran[2][1:] == ("--wipe-slot=tpm2", machine.device)
    assert "--tpm2-pcrs=7" in machine.ran[3]


@pytest.mark.parametrize("label", ["", "somebody's", "cofferdam-data9", "cofferdam-data"])
def test_an_encrypted_disk_is_never_written_over(machine, label):
    machine.disk(header(label))
    if label == "cofferdam-data":
        os.unlink(seal.TPM)
    else:
        machine.write("key", b"k")
    with pytest.raises(DiskError, match=r"not touched|is sealed to a TPM.*nothing was written"):
        machine.unlock()
    assert machine.ran == []
    with open(machine.device, "rb") as disk:
        assert disk.read(4096) == header(label)


def test_a_plain_disk_is_not_sealed(machine):
    machine.disk(bytes(1024) + b"\1")
    with pytest.raises(DiskError, match=r"not sealed to it; it is not touched. Boot it without a TPM"):
        machine.unlock()
    assert machine.ran == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps({"public_key": "other", "signature": {}}).encode(), "not the one that its signed command line names"),
        (json.dumps({"public_key": KEY}).encode(), "cannot be read"),
        (b"[]", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_key_that_the_command_line_does_not_name_is_not_used(machine, content, said):
    machine.disk(header("cofferdam-data"))
    machine.part.write_bytes(content)
    with pytest.raises(DiskError, match=said):
        machine.unlock()
    assert machine.ran == [] and not os.path.exists(seal.SIGNATURE)


def test_the_partition_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(seal, "BLOCKS", str(tmp_path))
    for name, text in (
        ("vda", "DEVTYPE=disk\n"),
        ("vda1", "PARTNAME=cofferdam-seal2\n"),
        ("vda4", "PARTN=4\nPARTNAME=cofferdam-seal\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "uevent").write_text(text)
    assert seal._partition() == "/dev/vda4"
    (tmp_path / "vda4/uevent").write_text("")
    with pytest.raises(OSError, match="no partition"):
        seal._partition()


def test_a_larger_disk_is_shown_through_the_encryption(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(seal, "MAPPED", str(tmp_path / "mapped"))
    assert seal.enlarge("/dev/vdb") == "/dev/vdb" and machine.ran == []
    machine.write("mapped", b"")
    assert seal.enlarge("/dev/vdb") == seal.MAPPED
    assert machine.verbs == ["resize"]
