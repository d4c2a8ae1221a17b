"""The pure parts of `inv bench`: pairs, goals, the table, what the proxy adds, idle memory by the balloon."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cofferdam import benchverb
from cofferdam.bench import idle
from cofferdam.bench.model import Figure, Pair, Report, in_turn
from cofferdam.bench.proxy import added, scale, table
from cofferdam.bench.report import HEADINGS, markdown, ratios_svg, rows, write
from cofferdam.errors import InstanceError, UsageError


def pair(ours: list[float], peer: list[float], **rest: object) -> Pair:
    return Pair.model_validate({"name": "p", "unit": "s", "peer_name": "q", "better": "less", "ours": ours, "peer": peer, **rest})


def report(accelerator: str = "kvm", **rest: object) -> Report:
    values = {"machine": "m", "accelerator": accelerator, "kernel": "k", "taken": "2026-01-01", "runs": 2, **rest}
    return Report.model_validate(values)


def test_figures_are_taken_in_turn_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    numbers = iter(range(100))

    def measure(side: str) -> float:
        order.append(side)
        return float(next(numbers))

    ours, peer = in_turn(lambda: measure("a"), lambda: measure("b"), 3)
    assert "".join(order) == "abABBAAB".lower()
    assert (ours, peer) == ([2.0, 5.0, 6.0], [3.0, 4.0, 7.0])


def test_the_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_the_medians() -> None:
    assert pair([1, 2, 30], [1, 1, 10]).ratio == 2


@pytest.mark.parametrize(
    ("better", "goal", "met"),
    [("less", 2.0, True), ("less", 1.9, False), ("more", 2.0, True), ("more", 2.1, False), ("more", None, None)],
)
def test_a_goal_is_met_in_the_direction_that_is_good(better: str, goal: float | None, met: bool | None) -> None:
    assert pair([2], [1], better=better, goal=goal).met is met


def test_what_the_proxy_adds_is_the_median_difference_pair_by_pair() -> None:
    figure = added(pair([5, 9, 10], [4, 4, 8], name="proxy: GET /_ping", unit="ms"))
    assert (figure.name, figure.value, figure.unit, figure.goal) == ("proxy: added to GET /_ping", 2, "ms", 3)


@pytest.mark.parametrize(
    ("accelerator", "value", "told"), [("kvm", 2, "yes"), ("kvm", 4, "no"), ("tcg", 2, "yes (tcg)"), ("tcg", 4, "no (tcg)")]
)
def test_a_goal_for_bare_metal_says_so_under_emulation(accelerator: str, value: float, told: str) -> None:
    figure = Figure(name="f", unit="ms", value=value, goal=3, where="bare metal")
    assert rows(report(accelerator, figures=[figure])) == [("f", f"{value} ms", "", "", "≤ 3 ms on bare metal", told)]


def test_a_goal_for_every_machine_counts_under_emulation_as_well() -> None:
    assert rows(report("tcg", figures=[Figure(name="f", unit="MB", value=4, goal=3)]))[0][-1] == "no"


def test_what_has_no_goal_leaves_its_columns_empty() -> None:
    found = rows(report(pairs=[pair([2], [1])], figures=[Figure(name="f", unit="MiB", value=21.5)]))
    assert found == [("p", "2 s", "1 s (q)", "2.00", "", ""), ("f", "21.5 MiB", "", "", "", "")]


def test_the_table_in_markdown_has_every_row_and_says_what_it_was_measured_on() -> None:
    lines = markdown(report(pairs=[pair([1], [2], goal=1)])).splitlines()
    assert lines[0] == "| " + " | ".join(HEADINGS) + " |"
    assert lines[2] == "| p | 1 s | 2 s (q) | 0.50 | ≤ 1.00 | yes |"
    assert "accelerator kvm" in lines[-1]


def test_a_written_report_reads_back(tmp_path: Path) -> None:
    made = report(pairs=[pair([1], [2])], figures=[Figure(name="f", unit="MB", value=4, goal=3, where="bare metal")])
    assert Report.model_validate(json.loads(write(made, tmp_path / "results").read_text())) == made


SVG = "{http://www.w3.org/2000/svg}"


def test_in_the_chart_longer_is_better_and_the_line_stands_where_both_are_the_same() -> None:
    pairs = [
        pair([3], [1], name="seconds & more", goal=1),
        pair([3], [1], name="rate", better="more", goal=1),
        pair([1], [1], name="same"),
    ]
    root = xml.fromstring(ratios_svg(report(pairs=pairs)))
    widths = [float(bar.attrib["width"]) for bar in root.findall(f"{SVG}rect[@class='bar']")]
    assert widths == pytest.approx([widths[2] / 3, widths[2] * 3, widths[2]], rel=0.01)
    line, last = root.findall(f"{SVG}line")[0], root.findall(f"{SVG}rect[@class='bar']")[2]
    assert float(line.attrib["x1"]) == pytest.approx(float(last.attrib["x"]) + widths[2])
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert texts == [
        "Speed beside the peer, line: the same (kvm, 2026-01-01)",
        *("seconds & more", "3.00 of q, goal missed", "rate", "3.00 of q, goal met", "same", "1.00 of q"),
    ]


def test_the_chart_is_written_beside_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = report(pairs=[pair([1], [2])])
    monkeypatch.setattr(benchverb, "run_bench", lambda *_: made)
    benchverb.bench(1, str(tmp_path / "results"), as_json=False, plot=str(tmp_path / "ratios.svg"))
    assert (tmp_path / "ratios.svg").read_text() == ratios_svg(made)
    assert (tmp_path / "results/latest.json").exists()


def test_a_chart_that_could_not_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchverb, "run_bench", lambda *_: pytest.fail("it was measured"))
    with pytest.raises(UsageError, match="there is no directory"):
        benchverb.bench(1, str(tmp_path), as_json=False, plot=str(tmp_path / "no/ratios.svg"))


def test_only_the_streams_have_a_ratio_to_reach() -> None:
    goals = {row.name: row.goal for row in table(scale("kvm"), "i") if row.goal is not None}
    streams = ("attach stream", "image load", "image load in chunks", "build context")
    assert goals == {f"proxy: {name}": 0.9 for name in streams}


def test_emulation_gets_less_to_do() -> None:
    assert scale("tcg").requests < scale("kvm").requests
    assert scale("tcg").mib < scale("whpx").mib == scale("kvm").mib
    assert scale("tcg").files < scale("kvm").files


@dataclass
class Balloon:
    """A monitor whose balloon has figures of its start, and new ones after some polls; what was asked of it."""

    after: int
    kind: str = "child<virtio-balloon-pci>"
    interval: list[object] = field(default_factory=list)

    def execute(self, command: str, **arguments: object) -> Any:
        if command == "qom-list":
            return [{"name": "device[0]", "type": "child<virtio-rng-pci>"}, {"name": "device[1]", "type": self.kind}]
        assert arguments["path"] == "/machine/peripheral-anon/device[1]"
        if command == "qom-set":
            self.interval.append(arguments["value"])
            return {}
        self.after -= 1
        fresh = self.after < 0
        available = 1 << 20 if fresh else 2 << 20
        return {"stats": {"stat-total-memory": 3 << 20, "stat-available-memory": available}, "last-update": 100 + fresh}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_PAUSE", 0)


def test_idle_memory_is_what_the_balloon_says_now_and_not_when_its_driver_started() -> None:
    balloon = Balloon(after=3)
    assert idle.used_mib(idle.guest_statistics(balloon)) == 2
    assert balloon.after == -1
    assert balloon.interval == [1, 0]


def test_a_balloon_without_a_guest_driver_is_an_error_and_no_figure() -> None:
    balloon = Balloon(after=1000)
    with pytest.raises(InstanceError, match="tells nothing"):
        idle.guest_statistics(balloon)
    assert balloon.interval == [1, 0]


def test_a_machine_without_a_balloon_is_an_error_and_no_figure() -> None:
    with pytest.raises(InstanceError, match="no memory balloon"):
        idle.guest_statistics(Balloon(after=0, kind="child<virtio-blk-pci>"))
