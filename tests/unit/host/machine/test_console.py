"""The console: lines that end a boot, what a terminal must not get, and the tail."""

from __future__ import annotations

import pytest

from cofferdam.machine import console
from cofferdam.machine.console import ConsoleWatch, clean, hopeless, last_lines


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        (
            "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            "the kernel panicked: VFS: Unable to mount root fs on unknown-block(0,0)",
        ),
        ("Kernel panic - not syncing:", "the kernel panicked"),
        (
            "[    2.1] device-mapper: verity: 254:0: data block 77 is corrupted",
            "verification failed: data block 77 of the root file system is not what was built",
        ),
        (
            "[    2.1] device-mapper: verity: 254:0: metadata block 28843 is corrupted",
            "verification failed: metadata block 28843 of the root file system is not what was built",
        ),
        (
            'BdsDxe: failed to load Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x3,0x0): Access Denied',
            "Secure Boot refused the disk: no enrolled key has signed what is on it (Access Denied)",
        ),
        (
            "BdsDxe: No bootable option or device was found.",
            "the firmware found nothing to start: No bootable option or device was found",
        ),
        ("You are in emergency mode. After logging in, ...", "systemd gave up: You are in emergency mode"),
        ("You are in rescue mode.", "systemd gave up: You are in rescue mode"),
        ("systemd[1]: Freezing execution.", "systemd gave up: Freezing execution"),
        ("[FAILED] Failed to mount root", "the root file system is not usable: Failed to mount root"),
    ],
)
def test_hopeless_lines(line, meaning):
    assert hopeless(line) == meaning


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Kernel command line: panic=-1",
        'device-mapper: verity: sha256 using shash "sha256-lib"',
        'BdsDxe: loading Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x3,0x0)',
        "systemd[1]: Started emergency.service - not really.",
        "[  OK  ] Reached target",
        "systemd[7]: Freezing execution.",
        "[FAILED] Failed to mount data.mount",
    ],
)
def test_ordinary_lines(line):
    assert hopeless(line) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("\x1b[0;1;31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[?25lx", "x"),
        ("\x1b(Bx\r", "x"),
        ("a\tb", "a\tb"),
        ("bell\x07\x00\x7f", "bell"),
        ("\x9b31mx\x85", "31mx"),
        ("  indented  ", "  indented"),
        ("Grüße", "Grüße"),
    ],
)
def test_clean(line, text):
    assert clean(line) == text


@pytest.mark.parametrize("data", ["\x1b]0;title\x07", "\x1bPq#0\x1b\\", "\x9b2J", "\x1b", "\x1b[", "\x0e\x0f"])
def test_nothing_reaches_a_terminal_as_a_command(data):
    assert all(character == "\t" or (character >= " " and not "\x7f" <= character <= "\x9f") for character in clean(data))


def test_new_lines_are_given_once_and_whole(tmp_path):
    path = tmp_path / "console.log"
    watch = ConsoleWatch(path)
    assert watch.new_lines() == []
    data = "one\r\ntwo ü\n".encode()
    for at in range(len(data)):
        path.write_bytes(data[: at + 1])
        lines = watch.new_lines()
        assert lines == {4: ["one"], len(data) - 1: ["two ü"]}.get(at, []), at
    assert watch.new_lines() == []


def test_a_watch_can_start_at_the_end(tmp_path):
    path = tmp_path / "console.log"
    path.write_text("old\n")
    watch = ConsoleWatch(path, at_end=True)
    with path.open("a") as sink:
        sink.write("new\n")
    assert watch.new_lines() == ["new"]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(console, "_CHUNK", 100_000)
    path = tmp_path / "console.log"
    path.write_bytes(b"x" * 1_000_000 + b"\nKernel panic - not syncing: end\n")
    watch = ConsoleWatch(path)
    for _ in range(5):
        watch.new_lines()
        assert len(watch._rest) <= console._LONGEST_LINE
    assert [verdict for _ in range(8) if (verdict := watch.verdict())] == ["the kernel panicked: end"]


def test_verdict_speaks_of_new_lines_only(tmp_path):
    path = tmp_path / "console.log"
    path.write_text("fine\n[ 1.0] Kernel panic - not syncing: no init\nmore\n")
    watch = ConsoleWatch(path)
    assert watch.verdict() == "the kernel panicked: no init"
    assert watch.verdict() is None


def test_last_lines(tmp_path):
    path = tmp_path / "console.log"
    assert last_lines(path) == []
    path.write_text("".join(f"\x1b[1mline {number}\x1b[0m\r\n" for number in range(50)) + "unfinished")
    assert last_lines(path, 3) == ["line 48", "line 49", "unfinished"]
    assert len(last_lines(path)) == console.TAIL_LINES


def test_last_lines_of_a_large_file_reads_its_end_only(tmp_path, monkeypatch):
    monkeypatch.setattr(console, "_CHUNK", 1000)
    path = tmp_path / "console.log"
    path.write_bytes(b"\xff" * 100_000 + b"\nlast\n")
    assert last_lines(path, 1) == ["last"]
