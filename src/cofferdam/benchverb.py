"""What `inv bench` prints and writes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from cofferdam.bench.main import run_bench
from cofferdam.bench.report import print_table, ratios_svg, write
from cofferdam.dayverbs import write_output
from cofferdam.errors import UsageError
from cofferdam.progress import Progress


def bench(runs: int, directory: str, *, as_json: bool, plot: str = "") -> None:
    """Measure, write `latest.json` and `latest.md`, draw the ratios when a file is named, print the table or the JSON.

    Raises:
        UsageError: fewer than one run, or the chart cannot be written.
    """
    if runs < 1:
        raise UsageError(f"--runs {runs}: at least one run is needed", hint="Leave it out for 5.")
    if plot and not Path(plot).parent.is_dir():
        # told now, and not after an hour
        raise UsageError(
            f"--plot {plot}: there is no directory {Path(plot).parent}", hint="Name a file in a directory that there is."
        )
    report = run_bench(runs, Progress())
    path = write(report, Path(directory))
    if plot:
        write_output(Path(plot), ratios_svg(report))
    if as_json:
        print(report.model_dump_json(indent=2))
        return
    print_table(report, Console())
    print(f"next           the figures are in {path}" + (f", the chart is in {plot}" if plot else ""))
