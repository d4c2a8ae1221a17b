"""Kills without warning at random moments of boot, build, run, resize and stop, of QEMU and of `inv` itself.

After each of them `inv status` answers, and the next command works or says what to do; what was forced to the disk is there. A failure
prints the series: COFFERDAM_KILLS_SEED repeats it, COFFERDAM_KILLS=50 makes it longer.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam.errors import InstanceError
from cofferdam.machine import accel, api
from cofferdam.machine.disk import disk_size
from cofferdam.machine.facts import probe_host
from cofferdam.machine.instance import Instance, State
from cofferdam.paths import ROOT
from vmtest.flows import wait_until
from vmtest.images import reference
from vmtest.kills import Kill, rounds
from vmtest.machines import BOOT_TIMEOUT, Machines
from vmtest.verbs import done, inv, row
from vmtest.vm import Vm

pytestmark = [pytest.mark.vm, pytest.mark.slow]

NAME = "killed"
NAMED = ("--name", NAME)
COUNT = int(os.environ.get("COFFERDAM_KILLS", "4"))
SEED = int(os.environ.get("COFFERDAM_KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
MIB = 2**20
END_SECONDS = 180
"""How long a command may take to notice that its machine is gone, on a desktop that does much else."""
STATUS_SECONDS = 60
AFTER = {
    ("boot", "qemu"): {"stopped"},
    ("boot", "inv"): {"stopped", "unfinished", "running"},
    ("stop", "qemu"): {"stopped"},
    ("stop", "inv"): {"stopped", "running", "paused"},
    ("resize", "qemu"): {"stopped"},
    ("resize", "inv"): {"running"},
    ("run", "qemu"): {"stopped"},
    ("build", "qemu"): {"stopped"},
}
APPEND = "n=$(($(wc -l </data/log)+1)); echo $n | dd conv=fsync >>/data/log 2>/dev/null; echo $n"
LOOK = f"touch /data/log; cat /data/log; echo --; df -k /data | awk 'END {{print $2}}'; {APPEND}"
DOCKERFILE = """FROM {base}
COPY data /data
RUN for i in 1 2 3 4; do head -c 2000000 /dev/urandom >/file$i; sync; done
RUN rm /file2 && cat /file3 /file4 >/both
"""


class Series:
    """One instance under the kills.

    Attributes:
        numbers: how many numbers in the volume's log are known to have been forced to the disk.
        boot_seconds: how long the latest whole boot took.
        rebuild: whether a build was killed and not repeated yet.
    """

    def __init__(self, machines: Machines, folder: Path) -> None:
        self.machines, self.instance = machines, Instance(NAME)
        self.numbers, self.boot_seconds, self.rebuild = 0, 0.0, False
        # One that is asked for by name: with another, a killed QEMU is a reason to go on with emulation.
        self.accelerator = next(item.accelerator for item in accel.candidates(probe_host()) if item.usable)
        (folder / "Dockerfile").write_text(DOCKERFILE.format(base=reference("busybox")))
        (folder / "data").write_bytes(os.urandom(3 * MIB))
        self.folder = folder

    def boot(self, **settings: object) -> Vm:
        """Boot to the end, the stop that a running one wants first included, and look at what the disk holds."""
        try:
            vm = self.machines.boot(NAME, "debug", memory="1G", accel=self.accelerator, **settings)
        except InstanceError as error:
            assert f"inv stop {' '.join(NAMED)}" in error.hint
            done("stop", *NAMED)
            vm = self.machines.boot(NAME, "debug", memory="1G", accel=self.accelerator, **settings)
        self.boot_seconds = vm.report.seconds["docker"]
        return vm

    def look(self, vm: Vm) -> None:
        """All numbers are there, the file system is as large as its disk, the next number can be written, a killed build goes through."""
        said = self.succeed(vm, "run", "--rm", "-v", "kept:/data", reference("busybox"), "sh", "-ec", LOOK)
        log, _, rest = said.partition("--\n")
        found = [int(word) for word in log.split()]
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= self.numbers, f"numbers {len(found) + 1} to {self.numbers} were forced to the disk and are lost"
        kibibytes, self.numbers = (int(word) for word in rest.split())
        assert kibibytes * 1024 > 0.9 * disk_size(self.instance.data_disk)
        if self.rebuild:
            self.succeed(vm, *self.build_words())
            self.rebuild = False

    @staticmethod
    def succeed(vm: Vm, *words: str) -> str:
        return vm.succeed(*words, timeout=600)

    def build_words(self) -> list[str]:
        return ["build", "--progress=plain", "--no-cache", "--tag", "killed", str(self.folder)]

    def hit(self, kill: Kill, vm: Vm | None) -> None:
        """Kill, and see that everybody notices."""
        started = time.monotonic()
        if kill.phase in ("run", "build"):
            assert vm is not None
            self._hit_docker(kill, vm)
        else:
            self._hit_verb(kill)
        killed = time.monotonic()
        found = row(NAME)
        assert time.monotonic() - killed < STATUS_SECONDS
        print(f"{kill} after {time.monotonic() - started:.1f} s: {found['state']}, {found.get('note', '')}")
        assert found["state"] in AFTER[kill.phase, kill.victim]

    def _hit_docker(self, kill: Kill, vm: Vm) -> None:
        words = ["run", "--rm", "-v", "kept:/data", reference("busybox"), "sh", "-c", f"while :; do {APPEND}; done"]
        if kill.phase == "build":
            words, self.rebuild = self.build_words(), True
        client = popen([str(vm.program.path), *words], {**os.environ, **vm.environment})
        first = ""
        if kill.phase == "run":
            assert client.stdout is not None
            # Never longer, whatever the machine does.
            limit = threading.Timer(END_SECONDS, client.kill)
            limit.start()
            first = client.stdout.readline()
            limit.cancel()
            assert first.strip().isdecimal(), client.communicate(timeout=END_SECONDS)
        time.sleep(kill.pause(self.boot_seconds))
        self.kill_qemu()
        output, _ = client.communicate(timeout=END_SECONDS)
        if kill.phase == "run":
            # The last line may have been cut.
            self.numbers = max(int(line) for line in (first + output).rpartition("\n")[0].split())

    def _hit_verb(self, kill: Kill) -> None:
        words = {
            "boot": [
                "boot",
                *NAMED,
                "--profile",
                "debug",
                "--memory",
                "1G",
                "--accel",
                self.accelerator,
                "--timeout",
                str(BOOT_TIMEOUT),
            ],
            "stop": ["stop", *NAMED],
            "resize": ["resize", *NAMED, "--disk", f"{disk_size(self.instance.data_disk) // MIB + 64}M"],
        }[kill.phase]
        if kill.phase == "boot" and self.instance.state() in (State.RUNNING, State.PAUSED):
            done("stop", *NAMED)
        # one that a killed boot has left is ended by this boot, and is not the one to be hit
        left = self.instance.qemu_process() if kill.phase == "boot" else None
        command = popen([sys.executable, "-m", "invoke", *words], dict(os.environ))
        if kill.victim == "inv":
            time.sleep(kill.pause(self.boot_seconds))
            command.kill()
            command.communicate(timeout=END_SECONDS)
            return
        wait_until(lambda: self.qemu_runs(left) or command.poll() is not None, "QEMU runs", seconds=END_SECONDS, pause=0.05)
        time.sleep(kill.pause(self.boot_seconds))
        self.kill_qemu()
        _, errors = command.communicate(timeout=END_SECONDS)
        assert command.returncode == 0 or re.search(r"^error: .*^  next: \S", errors, re.MULTILINE | re.DOTALL), errors

    def qemu_runs(self, left: tuple[int, str | None] | None) -> bool:
        """Whether a QEMU other than `left` is there: it alone writes its pid file."""
        return self.instance.pidfile.exists() and self.instance.alive and self.instance.qemu_process() != left

    def kill_qemu(self) -> None:
        """End QEMU as a power cut would; one that has ended by itself is as good."""
        found = self.instance.qemu_process() if self.instance.alive else None
        if found is not None:
            os.kill(found[0], signal.SIGKILL)
        wait_until(lambda: not self.instance.alive, "QEMU is gone", seconds=30)


def popen(argv: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def series(machines: Machines, tmp_path: Path) -> Iterator[Series]:
    made = Series(machines, tmp_path)
    yield made
    if made.instance.state() not in (State.ABSENT, State.DELETED):
        api.stop(NAME, force=True)
    inv("delete", *NAMED, "--data", "--yes")


@pytest.mark.timeout(600 + 300 * COUNT)
def test_nothing_is_stuck_and_nothing_forced_to_the_disk_is_lost(series: Series) -> None:
    print(f"COFFERDAM_KILLS={COUNT} COFFERDAM_KILLS_SEED={SEED}")
    vm = series.boot(data_disk="2G")
    vm.image("busybox")
    series.look(vm)
    for kills in rounds(SEED, COUNT):
        for number, kill in enumerate(kills):
            series.hit(kill, vm if number == 0 else None)
        vm = series.boot()
        series.look(vm)
    done("stop", *NAMED)
    assert row(NAME)["state"] == "stopped"
