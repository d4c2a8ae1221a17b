"""A bar chart as SVG: one bar a line on a common scale, such as a time line, readable on a light and on a dark ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cofferdam.template import render

LIGHT = {"ground": "#ffffff", "text": "#1f2328", "bar": "#4184e4"}
DARK = {"ground": "#0d1117", "text": "#e6edf3", "bar": "#316dca"}
_TEMPLATE = Path(__file__).with_name("plot.svg.j2")
_MARGIN, _NAMES, _PLOT, _LABELS = 16, 110, 480, 150
_TOP, _LINE = 40, 26
_THINNEST = 1.0


@dataclass(frozen=True)
class Bar:
    """A span on the scale, seconds or another unit; `label` is written at its end."""

    name: str
    start: float
    end: float
    label: str


def bars_svg(title: str, bars: Sequence[Bar], *, names: int = _NAMES, labels: int = _LABELS, mark: float | None = None) -> str:
    """The chart, an SVG document; the longest bar takes the whole width.

    Args:
        title: above the bars.
        bars: from top to bottom.
        names: width of the column of names, in pixels.
        labels: room for the labels behind the longest bar.
        mark: value at which a line stands across all bars.
    """
    scale = _PLOT / (max([*(bar.end for bar in bars), mark or 0.0]) or 1.0)
    left = _MARGIN + names
    placed = [
        {
            "name": bar.name,
            "label": bar.label,
            "x": round(left + bar.start * scale, 2),
            "y": _TOP + number * _LINE,
            "width": round(max((bar.end - bar.start) * scale, _THINNEST), 2),
        }
        for number, bar in enumerate(bars)
    ]
    bottom = _TOP + len(bars) * _LINE
    size = {"width": left + _PLOT + labels, "height": bottom + _MARGIN}
    line = None if mark is None else {"x": round(left + mark * scale, 2), "top": _TOP - 4, "bottom": bottom}
    return render(_TEMPLATE, title=title, bars=placed, mark=line, margin=_MARGIN, light=LIGHT, dark=DARK, **size)
