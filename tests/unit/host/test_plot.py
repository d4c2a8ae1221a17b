"""The bar chart: well-formed, true to scale, and readable on both grounds."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml

import pytest

from cofferdam.plot import DARK, LIGHT, Bar, bars_svg

SVG = "{http://www.w3.org/2000/svg}"
BARS = [Bar("kernel", 0.0, 2.0, "+2.00 s"), Bar("<dockerd & co>", 2.0, 10.0, "+8.00 s"), Bar("ready", 10.0, 10.0, "+0.00 s")]


def drawn(bars: list[Bar]) -> xml.Element:
    return xml.fromstring(bars_svg('Boot of "box" <1>', bars))


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_bars_are_true_to_scale_and_inside():
    root = drawn(BARS)
    kernel, dockerd, ready = root.findall(f"{SVG}rect[@class='bar']")
    assert float(dockerd.get("width")) == pytest.approx(4 * float(kernel.get("width")))
    assert float(dockerd.get("x")) == pytest.approx(float(kernel.get("x")) + float(kernel.get("width")))
    assert float(ready.get("width")) > 0
    assert float(ready.get("x")) < float(root.get("width"))
    rows = [float(bar.get("y")) for bar in (kernel, dockerd, ready)]
    assert rows == sorted(set(rows))
    assert rows[-1] + 18 < float(root.get("height"))


def test_texts_are_written_as_they_are():
    texts = [text.text for text in drawn(BARS).findall(f"{SVG}text")]
    assert texts == ['Boot of "box" <1>', "kernel", "+2.00 s", "<dockerd & co>", "+8.00 s", "ready", "+0.00 s"]


def test_a_mark_is_a_line_across_all_bars_true_to_scale():
    root = xml.fromstring(bars_svg("t", BARS[:1], names=200, mark=4.0))
    bar, line = root.find(f"{SVG}rect[@class='bar']"), root.find(f"{SVG}line")
    assert float(bar.get("x")) > 200
    assert float(line.get("x1")) - float(bar.get("x")) == pytest.approx(2 * float(bar.get("width")))
    assert float(line.get("y1")) <= float(bar.get("y")) < float(bar.get("y")) + 18 <= float(line.get("y2"))
    assert drawn(BARS).find(f"{SVG}line") is None


def test_no_bars_are_a_chart_too():
    assert drawn([]).findall(f"{SVG}rect[@class='bar']") == []


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_text_and_bars_can_be_read_on_their_ground(scheme):
    assert contrast(scheme["text"], scheme["ground"]) >= 7
    assert contrast(scheme["bar"], scheme["ground"]) >= 3


def test_the_dark_colours_hold_where_the_reader_wants_dark():
    light, dark = re.split(r"@media \(prefers-color-scheme: dark\)", bars_svg("t", BARS))
    assert all(colour in light and colour not in dark for colour in LIGHT.values())
    assert all(colour in dark and colour not in light for colour in DARK.values())
