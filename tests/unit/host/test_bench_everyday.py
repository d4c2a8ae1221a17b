"""The rows beside the stock Debian: what it is booted with, which figure goes to which row, and when 9p is left out."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cofferdam.bench import main as bench
from cofferdam.bench.client import Client
from cofferdam.bench.everyday import FIRST_RUN, OWN_KERNEL, PEER, READY, Booted, Figures, measure_own_kernel, pairs, table
from cofferdam.bench.model import Pair, in_turn
from cofferdam.bench.proxy import scale
from cofferdam.bench.stock import ENVIRONMENT, Stock
from cofferdam.bench.stockvm import Machine, StockVm, arguments, words_for_tests
from cofferdam.bench.transports import missing, transport_words
from cofferdam.errors import BuildError
from cofferdam.machine.channels import Address
from cofferdam.machine.cmdline import DOCKER_GUEST_PORT
from cofferdam.profile import load_profile
from cofferdam.progress import Progress
from cofferdam.rootfs.entries import ROOTFS

CLIENT = Client({}, 2201, "docker", Path("config"), Path("key"), Path("known_hosts"))
VM = StockVm(Path("/vm"), CLIENT, 2301, 2401, b"ssh-ed25519 AAAA bench")
MACHINE = Machine("kvm", 3, 1024, ["norandmaps", "mitigations=off"], Path("/our/vmlinuz"))


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_the_stock_debian_gets_the_words_that_debug_has_beyond_default_and_none_that_hardens() -> None:
    words = words_for_tests(["slab_nomerge", *load_profile("debug").cmdline], ["slab_nomerge", *load_profile("default").cmdline])
    assert words == ["norandmaps", "mitigations=off", "highres=off"]
    line = value(arguments(VM, replace(MACHINE, words=words), keep=False), "-append").split()
    assert line[-3:] == words
    assert not set(words) & set(value(arguments(VM, replace(MACHINE, words=[]), keep=False), "-append").split())


def test_the_stock_debians_engine_collects_garbage_as_that_of_debug() -> None:
    for unit in ("docker", "containerd"):
        file = ROOTFS / f"overlay/debug/usr/lib/systemd/system/{unit}.service.d/garbage.conf"
        assert file.read_text(encoding="ascii").splitlines()[-2:] == ["[Service]", ENVIRONMENT]


def test_what_a_boot_writes_is_thrown_away_unless_it_is_the_first() -> None:
    assert "snapshot=on" in value(arguments(VM, MACHINE, keep=False), "-drive")
    assert "snapshot=off" in value(arguments(VM, MACHINE, keep=True), "-drive")


def test_each_forwarded_port_is_of_loopback_and_ends_where_something_listens() -> None:
    rules = value(arguments(VM, MACHINE, keep=False), "-netdev").split(",hostfwd=")[1:]
    assert rules == [f"tcp:127.0.0.1:2301-:{DOCKER_GUEST_PORT}", "tcp:127.0.0.1:2201-:22", "tcp:127.0.0.1:2401-:8000"]


def test_ssh_lets_the_key_of_this_run_in() -> None:
    text = value(arguments(VM, MACHINE, keep=False), "-smbios")
    name, _, coded = text.removeprefix("type=11,value=").partition("=")
    assert name == "io.systemd.credential.binary:ssh.authorized_keys.root"
    assert base64.b64decode(coded, validate=True) == VM.authorized


def test_an_initrd_comes_with_the_kernel_that_needs_one() -> None:
    assert "-initrd" not in arguments(VM, MACHINE, keep=False)
    debian = replace(MACHINE, kernel=Path("/debian/vmlinuz"), initrd=Path("/debian/initrd.img"))
    words = arguments(VM, debian, keep=False)
    assert (value(words, "-kernel"), value(words, "-initrd")) == ("/debian/vmlinuz", "/debian/initrd.img")


def test_the_rows_are_boot_first_run_idle_and_ports() -> None:
    rows = table(scale("kvm"))
    assert [(row.name, row.unit, row.better, row.goal) for row in rows] == [
        ("power-on to Docker ready", "s", "less", 1 / 3),
        ("cold boot to first docker run finished", "s", "less", None),
        ("memory used at idle", "MiB", "less", None),
        ("processor used at idle", "% of one", "less", None),
        ("published port: stream", "MiB/s", "more", None),
        ("published port: round trip", "ms", "less", None),
        ("published port: new connection", "ms", "less", None),
    ]


def test_every_figure_of_a_boot_goes_to_its_row_and_the_warm_up_to_none() -> None:
    boots = iter([[9.0, 9.0], [8.0, 8.0], [1.0, 3.0], [4.0, 12.0]])

    def boot() -> dict[str, float]:
        return dict(zip((READY.name, FIRST_RUN.name), next(boots), strict=True))

    made = pairs(*in_turn(boot, boot, 1), [FIRST_RUN, READY])
    assert [(pair.name, pair.ours, pair.peer, pair.peer_name) for pair in made] == [
        (FIRST_RUN.name, [3.0], [12.0], PEER),
        (READY.name, [1.0], [4.0], PEER),
    ]
    assert made[1].met is True


def test_both_boot_in_turn_for_the_row_of_debians_own_kernel() -> None:
    seconds = iter([9.0, 90.0, 2.0, 8.0])

    def side(measure: Callable[[Booted], Figures]) -> Figures:
        return measure(Booted(CLIENT, 0.0, next(seconds), 1, Address(path="/qmp"), "kvm"))

    (pair,) = measure_own_kernel(side, side, 1)
    assert (pair.name, pair.ours, pair.peer) == (OWN_KERNEL.name, [2.0], [8.0])


def test_a_boot_without_a_figure_is_an_error_and_no_row() -> None:
    with pytest.raises(KeyError, match="first docker run"):
        pairs([{READY.name: 1}], [{READY.name: 1}], [READY, FIRST_RUN])


LISTED = """name "vhost-user-fs-pci", bus PCI, desc "virtio-fs"
name "virtio-9p-pci", bus PCI, alias "virtio-9p"
name "virtio-9p-pci-transitional", bus PCI
"""


def test_9p_is_compared_where_qemu_has_both_devices_themselves() -> None:
    assert missing(LISTED) == []
    assert missing(LISTED.replace('"virtio-9p-pci"', '"virtio-9p-device"')) == ["virtio-9p-pci"]
    assert missing("") == ["vhost-user-fs-pci", "virtio-9p-pci"]


def test_the_two_ways_have_a_tag_each_and_share_the_memory_of_the_machine() -> None:
    words = transport_words(Path("/vm/share"), Path("/vm/9p"), 512)
    assert "size=512M,share=on" in value(words, "-object")
    assert value(words, "-chardev") == "socket,id=share,path=/vm/share"
    assert value(words, "-fsdev") == "local,id=nine,path=/vm/9p,security_model=none"
    devices = [words[number + 1] for number, word in enumerate(words) if word == "-device"]
    assert [each.rpartition("tag=")[2].partition(",")[0] for each in devices] == ["virtiofs", "9p"]


@pytest.mark.parametrize("panics", [1, 2])
def test_a_stock_debian_with_9p_that_panics_is_booted_once_more_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, panics: int
) -> None:
    measured, compared = ([Pair(name=name, unit="s", peer_name="peer", ours=[1.0], peer=[2.0], better="less")] for name in "ab")
    boots = []

    def transports(*_: object) -> list[Pair]:
        boots.append(1)
        if len(boots) <= panics:
            raise BuildError("the stock Debian did not bring Docker up", hint="none")
        return compared

    given = {"stock_debian": Stock(*[Path("/x")] * 4), "measure_everyday": measured, "measure_own_kernel": [], "stock_side": None}
    for name, value_ in given.items():
        monkeypatch.setattr(bench, name, lambda *_, value_=value_: value_)
    for name in ("stock_vm", "our_side"):
        monkeypatch.setattr(bench, name, lambda *_: nullcontext())
    monkeypatch.setattr(bench, "measure_transports", transports)
    found = bench._beside_debian(None, MACHINE, None, Path("/layer"), 1, Progress(quiet=True))
    assert found == (measured + compared if panics < 2 else measured)
    assert len(boots) == 2
