"""Charts: thinned curves, round numbers on axes, values where they belong, words escaped."""

from __future__ import annotations

import random
import re
from base64 import b64decode
from io import BytesIO
from itertools import pairwise
from math import log10
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from netspec.report.axis import axis, number
from netspec.report.chart import Line, chart
from netspec.report.curve import MOST, Curve, smoothed
from netspec.report.raster import raster, tiled, to_bytes


def curve(*values: float | None) -> Curve:
    made = Curve()
    for x, value in enumerate(values):
        made.add(x, value)
    return made


def test_few_points_stay_as_they_are() -> None:
    points = curve(3.0, None, float("nan"), float("inf"), 1.0).points
    assert [(p.x, p.mean, p.low, p.high) for p in points] == [(0, 3, 3, 3), (4, 1, 1, 1)]


@pytest.mark.parametrize("count", [MOST, MOST + 1, 10 * MOST + 7, 50_001])
def test_a_thinned_curve_keeps_mean_and_extremes(count: int) -> None:
    values = np.random.default_rng(0).normal(size=count)
    points = curve(*values.tolist()).points
    assert MOST // 2 <= len(points) <= MOST
    assert sum(p.count for p in points) == count
    assert sum(p.mean * p.count for p in points) / count == pytest.approx(values.mean())
    assert min(p.low for p in points) == values.min()
    assert max(p.high for p in points) == values.max()
    assert [p.x for p in points] == sorted(p.x for p in points)
    assert points[-1].x == count - 1
    at = 0
    for point in points:
        part = values[at : at + point.count]
        assert (point.low, point.high) == (part.min(), part.max())
        assert point.mean == pytest.approx(part.mean())
        at += point.count


def test_smoothing_leaves_a_straight_line() -> None:
    points = curve(*(2.0 * i for i in range(50))).points
    assert smoothed(points, 7) == pytest.approx([p.mean for p in points])
    assert smoothed(points, 0) == pytest.approx([p.mean for p in points])


@given(
    st.floats(-1e12, 1e12, allow_subnormal=False),
    st.floats(1e-12, 1e12, allow_subnormal=False),
    st.booleans(),
)
def test_ticks_are_round_and_apart(low: float, extent: float, log: bool) -> None:
    if log:
        low, extent = max(abs(low), 1e-30), max(9 * abs(low), extent)
    made = axis(low, low + extent, log=log)
    assert made.low < made.high
    ticks = made.ticks(6)
    assert 1 <= len(ticks) <= 8
    places = [made.place(x) for x in ticks]
    assert all(0 <= place <= 1 for place in places)
    assert all(b - a >= 0.5 / 6 - 1e-9 for a, b in pairwise(places))


@pytest.mark.parametrize(
    ("low", "high", "log", "ticks"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.62, 0.98, False, [0.7, 0.8, 0.9]),
        (5, 5, False, [3, 4, 5, 6, 7]),
        (0, 0, False, [-1, -0.5, 0, 0.5, 1]),
        (0.05, 1.2, True, [0.05, 0.1, 0.2, 0.5, 1]),
        (1e-6, 1, True, [1e-6, 1e-4, 1e-2, 1]),
    ],
)
def test_ticks(low: float, high: float, log: bool, ticks: list[float]) -> None:
    assert axis(low, high, log=log).ticks(6) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (1000, "1,000"),
        (2.5e6, "2.5M"),
        (1e-6, "1e-06"),
        (-3, "-3"),
        (1e38, "1e+38"),
    ],
)
def test_numbers_on_an_axis(value: float, said: str) -> None:
    assert number(value) == said


def parsed(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(figure)


def test_a_chart_is_well_formed_and_escaped() -> None:
    hostile = "<script>alert('1')</script>\x1b\u202e&\""
    figure = chart(hostile, [Line(hostile, curve(1, 2, 3), 0)], hostile)
    tree = parsed(figure)
    assert "script" not in {element.tag for element in tree.iter()}
    assert "<script" not in figure
    assert "\x1b" not in figure
    assert "".join(tree.itertext()).count("alert('1')") == 6  # title, key, x axis and three values


def test_where_values_lie() -> None:
    tree = parsed(chart("loss", [Line("train", curve(1, 0.01), 0)], "epoch", log=True))
    first, second = (
        (float(dot.attrib["cx"]), float(dot.attrib["cy"]))
        for dot in sorted(
            (e for e in tree.iter("circle") if e.attrib["class"] == "dot"),
            key=lambda e: float(e.attrib["cx"]),
        )
    )
    labels = {e.text: e for e in tree.iter("text")}
    assert {"0", "1", "epoch", "0.01", "0.1"} <= labels.keys()
    assert first[0] == pytest.approx(float(labels["0"].attrib["x"]), abs=0.1)
    tenth = float(labels["0.1"].attrib["y"]) - 4
    assert tenth == pytest.approx((first[1] + second[1]) / 2, abs=0.2)
    assert second[1] == pytest.approx(float(labels["0.01"].attrib["y"]) - 4, abs=0.1)


def test_a_noisy_line_has_a_band_and_an_exact_one_none() -> None:
    generator = random.Random(1)
    noisy = curve(*(generator.random() for _ in range(200)))
    figure = chart("x", [Line("a", noisy, 0), Line("b", noisy, 1, exact=True)], "epoch")
    assert figure.count('class="band"') == 1
    assert chart("x", [Line("a", curve(), 0)], "epoch") == ""


def test_a_million_values_make_no_large_chart() -> None:
    generator = random.Random(1)
    long = Curve()
    for i in range(200_000):
        long.add(i, generator.random())
    assert len(chart("x", [Line("a", long, 0)], "iteration")) < 60_000


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=60))
def test_any_values_make_a_chart(values: list[float]) -> None:
    for log in (False, True):
        figure = chart("x", [Line("a", curve(*values), 0)], "epoch", log=log)
        assert not re.search(r"\b(nan|inf)\b", figure)
        for element in parsed(figure).iter() if figure else ():
            if element.tag == "circle":
                assert -1 <= float(element.attrib["cx"]) <= 441
                assert -1 <= float(element.attrib["cy"]) <= 251


def shown(image: str) -> NDArray[Any]:
    found = re.search(r'src="data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)"', image)
    assert found is not None
    return np.asarray(Image.open(BytesIO(b64decode(found[2]))))


def test_pictures_are_what_they_show() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7), np.uint8)
    assert (shown(raster(pixels, side=70)) == pixels.transpose(1, 2, 0)).all()
    assert 'width="70" height="50"' in raster(pixels, side=70)
    assert (shown(raster(pixels, side=70, bgr=True)) == pixels[::-1].transpose(1, 2, 0)).all()
    assert (shown(raster(pixels[:1], side=70)) == pixels[0]).all()
    large = np.zeros((3, 400, 300), np.uint8)
    assert shown(raster(large, side=50)).shape == (100, 75, 3)
    assert shown(raster(large, side=50, exact=True)).shape == (400, 300, 3)


def test_values_become_bytes() -> None:
    assert to_bytes(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 128, 255]
    assert to_bytes(np.array([2.0, 2.0])).tolist() == [0, 0]
    assert to_bytes(np.array([0.0, np.nan, 1.0])).tolist() == [0, 0, 255]
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_bytes(every), every)
    assert to_bytes(np.array([-9.0, -2, 0, 2, np.inf, 9]), (-2, 2)).tolist() == [
        0, 0, 128, 255, 128, 255,
    ]  # fmt: skip
    assert to_bytes(np.array([0, 0.1]), (0, 0)).tolist() == [0, 26]


def test_tiles_stand_apart() -> None:
    sheet = tiled(np.zeros((3, 1, 2, 2), np.uint8), 2)
    assert sheet.shape == (1, 5, 5)
    assert sheet[0].tolist() == [
        [0, 0, 255, 0, 0], [0, 0, 255, 0, 0], [255] * 5, [0, 0, 255, 255, 255],
        [0, 0, 255, 255, 255],
    ]  # fmt: skip


def test_a_log_axis_is_equal_for_equal_ratios() -> None:
    made = axis(1, 1000, log=True)
    assert made.place(10) - made.place(1) == pytest.approx(made.place(1000) - made.place(100))
    assert made.place(10) == pytest.approx(log10(10 / made.low) / log10(made.high / made.low))
