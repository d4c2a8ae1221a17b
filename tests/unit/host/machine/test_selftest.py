"""The self-test: its program runs as it is on any Linux of this architecture, and what it prints is judged."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from cofferdam.machine.door import Door
from cofferdam.machine.selftest import SelfTestError, judge, program, self_test


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="it is a program for Linux on x86_64")
def test_the_program_prints_its_ids(tmp_path):
    file = tmp_path / "uid-map"
    file.write_bytes(program())
    file.chmod(0o755)
    done = subprocess.run([file], capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (0, Path("/proc/self/uid_map").read_bytes())
    assert len(program()) < 250


def test_ids_of_its_own_are_good():
    assert judge("         0     100000      65536\n", isolated=True) == "a container's root is id 100000 of the VM"
    assert judge("0 165536 65536", isolated=True)


@pytest.mark.parametrize(
    "said",
    ["0 0 4294967295", "0 1000 65536", "0 100000 65536\n65536 0 1", "5 100000 65536", "", "exec format error", "0 1", "\x1b[2J"],
)
def test_anything_else_is_an_error_that_says_what_was_seen(said):
    with pytest.raises(SelfTestError) as error:
        judge(said, isolated=True)
    assert str(error.value).startswith("self-test: ")
    assert str(error.value).isprintable()


def test_an_image_without_isolation_only_has_to_run_one():
    assert "keeps none apart" in judge("0 0 4294967295", isolated=False)
    with pytest.raises(SelfTestError):
        judge("", isolated=False)


def test_a_machine_that_does_not_answer_is_an_error(tmp_path):
    with pytest.raises(SelfTestError, match="no container could be run"):
        self_test(Door("tcp://127.0.0.1:1", tmp_path), isolated=True)
