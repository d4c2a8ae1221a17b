"""A release is updated and the power goes at a step of it: the next boot has one of the two images whole, and all data.

At three steps: with the former machine ended, with the new one up, and at the end. COFFERDAM_POWER_CUTS=all takes each step, as the unit
tests do with a stand-in for QEMU.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cofferdam.machine.update import STEPS
from cofferdam.paths import ROOT
from vmtest.machines import Machines
from vmtest.shop import Shop, docker, versions
from vmtest.verbs import SMALL, done, inv

pytestmark = [pytest.mark.vm, pytest.mark.slow]

NAME = "power"
NAMED = ("--name", NAME)
BOOT = ("boot", *NAMED, *SMALL, "--share", "none", "--proxy", "none", "--no-activate")
ALL = [name for name, _ in STEPS]
CUTS = ALL if os.environ.get("COFFERDAM_POWER_CUTS") == "all" else ["snapshot", "booted", ALL[-1]]
OLD, NEW = "1.0.0", "1.1.0"

_CUT = """
import os, signal, sys
from functools import partial
from cofferdam import imageverbs
from cofferdam.machine import update
from cofferdam.machine.instance import Instance

name, folder, key, last = sys.argv[1:]

def cut(step):
    if step == last:
        record = Instance(name).record
        if record is not None and record.pid is not None:
            os.kill(record.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

update.update = partial(update.update, after=cut)
imageverbs.update(name, image=folder, key=key)
"""
"""`inv update` that ends, with its machine, after a step."""


@pytest.fixture(scope="module")
def shop(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("shop")
    shop = Shop(home, machines.image("default"))
    try:
        done(*BOOT, "--image", str(shop.release(OLD)), "--key", str(shop.signers))
        shop.release(NEW)
        yield shop
    finally:
        inv("stop", *NAMED, "--force")
        inv("delete", *NAMED, "--data", "--yes")
        # Some hundred megabytes, which pytest would keep.
        shutil.rmtree(home)


@pytest.mark.parametrize("step", CUTS)
def test_the_power_goes_at_a_step_of_an_update(shop: Shop, step: str) -> None:
    """Each row leaves the instance running, the last one with the new image."""
    before = docker(NAME, "sh", "-c", f"echo {step} >>/data/note; sync; cat /data/note").splitlines()
    words = [sys.executable, "-c", _CUT, NAME, str(shop.home / NEW), str(shop.signers), step]
    cut = subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    assert cut.returncode == -signal.SIGKILL, cut.stderr
    done(*BOOT)
    confirmed = step == ALL[-1]
    assert versions(NAME)[:2] == ((NEW, OLD) if confirmed else (OLD, ""))
    line, *notes = docker(NAME, "sh", "-c", "cat /proc/cmdline /data/note").splitlines()
    assert ("cofferdam.release=1.1.0" in line.split()) is confirmed
    assert notes == before and notes[-1] == step
