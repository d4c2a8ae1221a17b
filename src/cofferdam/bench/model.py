"""Measurements: two series taken in turn, their ratio pair by pair, and the goal they are held against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

EMULATION = "tcg"
"""The accelerator that is none."""

Measured = TypeVar("Measured")


class Pair(BaseModel):
    """One figure of ours beside a peer's, measured in turn in the same run.

    `better` says which direction is good; `goal` is the bound of the median ratio ours/peer, if there is one.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    peer_name: str
    ours: list[float] = Field(min_length=1)
    peer: list[float] = Field(min_length=1)
    better: Literal["less", "more"]
    goal: float | None = None

    @property
    def ratio(self) -> float:
        """Median of ours/peer, pair by pair."""
        return statistics.median(ours / peer for ours, peer in zip(self.ours, self.peer, strict=True))

    @property
    def met(self) -> bool | None:
        """Whether the ratio is within the goal; None without one."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.better == "less" else self.ratio >= self.goal


class Figure(BaseModel):
    """One figure and its absolute goal, if there is one; `where` names the only machines that the goal is meant for."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    value: float
    goal: float | None = None
    where: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value is within the goal; None without one."""
        return None if self.goal is None else self.value <= self.goal


class Report(BaseModel):
    """Everything one run of `inv bench` measured, and on what."""

    machine: str
    accelerator: str
    kernel: str
    taken: str
    runs: int
    pairs: list[Pair] = Field(default_factory=list)
    figures: list[Figure] = Field(default_factory=list)


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turn(ours: Callable[[], Measured], peer: Callable[[], Measured], runs: int) -> tuple[list[Measured], list[Measured]]:
    """Measure A B B A A B …: `runs` figures of each, or sets of figures, after one warm-up of each that does not count."""
    ours()
    peer()
    series: tuple[list[Measured], list[Measured]] = ([], [])
    for number in range(runs):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            series[which].append((ours, peer)[which]())
    return series
