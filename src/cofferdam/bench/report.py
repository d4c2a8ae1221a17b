"""The bench report as a table on the terminal, in Markdown and as JSON, its ratios also as a chart."""

from __future__ import annotations

import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cofferdam.bench.model import EMULATION, Figure, Pair, Report
from cofferdam.plot import Bar, bars_svg

HEADINGS = ("measured", "ours", "peer", "ratio", "goal", "met")
_NAME_WIDTH, _LABEL_WIDTH = 300, 260
_GOAL = {True: ", goal met", False: ", goal missed", None: ""}
_MET = {True: "yes", False: "no", None: ""}


def _pair_row(pair: Pair) -> tuple[str, ...]:
    ours, peer = statistics.median(pair.ours), statistics.median(pair.peer)
    sign = "≤" if pair.better == "less" else "≥"
    return (
        pair.name,
        f"{ours:.4g} {pair.unit}",
        f"{peer:.4g} {pair.unit} ({pair.peer_name})",
        f"{pair.ratio:.2f}",
        "" if pair.goal is None else f"{sign} {pair.goal:.2f}",
        _MET[pair.met],
    )


def _figure_row(figure: Figure, accelerator: str) -> tuple[str, ...]:
    where = f" on {figure.where}" if figure.where else ""
    # a goal for other machines than this one: what it would be is told, and why it does not count
    here = f" ({accelerator})" if figure.where and figure.met is not None and accelerator == EMULATION else ""
    return (
        figure.name,
        f"{figure.value:.4g} {figure.unit}",
        "",
        "",
        "" if figure.goal is None else f"≤ {figure.goal:.4g} {figure.unit}{where}",
        _MET[figure.met] + here,
    )


def rows(report: Report) -> list[tuple[str, ...]]:
    """The table's rows, as text."""
    return [*map(_pair_row, report.pairs), *(_figure_row(figure, report.accelerator) for figure in report.figures)]


def caption(report: Report) -> str:
    """Where and when the figures were taken."""
    where = f"{report.machine}; accelerator {report.accelerator}; kernel {report.kernel}"
    return f"{where}; {report.taken}; medians of {report.runs} runs in turn"


def print_table(report: Report, console: Console) -> None:
    """Print the report to a console."""
    table = Table(*HEADINGS, caption=caption(report))
    for row in rows(report):
        table.add_row(*row)
    console.print(table)


def markdown(report: Report) -> str:
    """The report as a Markdown table with its caption."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(report)]
    return "\n".join([*lines, "", caption(report) + "."]) + "\n"


def ratios_svg(report: Report) -> str:
    """How fast ours is beside its peer, as a bar chart (SVG): longer is better in every row, and at the line both are the same.

    A row in which less is better, such as seconds, is as long as the inverse of its ratio; labels have the ratio as in the table.
    """
    bars = []
    for pair in report.pairs:
        speed = 1 / pair.ratio if pair.better == "less" else pair.ratio
        bars.append(Bar(pair.name, 0.0, speed, f"{pair.ratio:.2f} of {pair.peer_name}{_GOAL[pair.met]}"))
    title = f"Speed beside the peer, line: the same ({report.accelerator}, {report.taken})"
    return bars_svg(title, bars, names=_NAME_WIDTH, labels=_LABEL_WIDTH, mark=1.0)


def write(report: Report, directory: Path) -> Path:
    """Write the report as `latest.json` and `latest.md`; returns the JSON file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "latest.md").write_text(markdown(report), encoding="utf-8")
    path = directory / "latest.json"
    path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return path
