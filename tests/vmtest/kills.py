"""A random series of kills that can be had again by its seed: what is killed, while what is going on, and when."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

ROUND = 4
"""Kills of one round: the first hits a machine at work, the others the boots after it; then a boot is let through and looked at."""
WORK = (("run", "qemu"), ("build", "qemu"), ("stop", "inv"), ("stop", "qemu"), ("resize", "inv"), ("resize", "qemu"))
BOOT = (("boot", "qemu"), ("boot", "inv"))
# Longest pause before a kill, in seconds; a boot is hit anywhere before its end, and more often early, where it is cheap.
PAUSES = {"run": 4.0, "build": 12.0, "stop": 5.0, "resize": 4.0}
_BEFORE_THE_END = 0.95


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        phase: `run`, `build`, `stop`, `resize` or `boot`.
        victim: `qemu`, or `inv`: the command that is at it.
        when: between 0 and 1, part of the phase's longest pause.
    """

    phase: str
    victim: str
    when: float

    def pause(self, boot: float) -> float:
        """Seconds to wait before it.

        Args:
            boot: how long a whole boot takes.
        """
        if self.phase == "boot":
            return self.when**2 * boot * _BEFORE_THE_END
        return self.when * PAUSES[self.phase]


def rounds(seed: int, count: int) -> Iterator[list[Kill]]:
    """So many kills in rounds; each point of the tables comes once before any comes again."""
    dice = random.Random(seed)
    work, boot = _shuffled(WORK, dice), _shuffled(BOOT, dice)
    for start in range(0, count, ROUND):
        points = [next(work), *(next(boot) for _ in range(min(ROUND, count - start) - 1))]
        yield [Kill(phase, victim, dice.random()) for phase, victim in points]


def _shuffled(points: tuple[tuple[str, str], ...], dice: random.Random) -> Iterator[tuple[str, str]]:
    while True:
        yield from dice.sample(points, len(points))
