import math
import re

import pytest

from polyscale.report.chart import HEIGHT, MAX_POINTS, WIDTH, line_chart, nice_ticks
from polyscale.report.data import Curve


def paths(chart):
    return re.findall(r'<path class="(\w+)" d="([^"]*)"', str(chart))


def places(path):
    return [tuple(map(float, pair.split())) for pair in re.findall(r"[ML]([\d. -]+)", path)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0.03, 0.97, [0, 0.25, 0.5, 0.75, 1]),
        (0, 1200, [0, 500, 1000, 1500]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (18, 63, [0, 20, 40, 60, 80]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    assert nice_ticks(low, high, 4) == expected


@pytest.mark.parametrize("value", [0.0, 5.0, -2.0, 1e-9])
def test_ticks_of_one_value(value):
    ticks = nice_ticks(value, value, 4)
    assert ticks[0] < value < ticks[-1]


def test_a_line_goes_through_its_points():
    chart = line_chart(Curve("Loss", [(0, 4.0), (50, 2.0), (100, 0.0)]))
    ((kind, path),) = paths(chart)
    assert kind == "line"
    (x0, y0), (x1, y1), (x2, y2) = places(path)
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert 0 < x0 < x2 < WIDTH
    assert 0 < y0 < y2 < HEIGHT  # down is larger in SVG
    assert str(chart).count("<circle") == 3


def test_fractions_are_printed_in_percent():
    chart = str(line_chart(Curve("mIoU", [(100, 0.2), (200, 0.61)], "percent")))
    assert ">60</text>" in chart
    assert 'aria-label="mIoU: from 20 at step 100 to 61 at step 200"' in chart


def test_gaps_where_values_are_not_finite():
    chart = line_chart(Curve("Loss", [(0, 1), (1, 2), (2, math.nan), (3, math.inf), (4, 2), (5, 1)]))
    ((_, path),) = paths(chart)
    assert path.count("M") == 2
    assert len(places(path)) == 4
    assert line_chart(Curve("Loss", [(0, math.nan)])) == line_chart(Curve("Loss", [])) == ""


def test_a_single_point_and_a_constant_are_drawn():
    assert str(line_chart(Curve("Loss", [(7, 3.0)]))).count("<circle") == 1
    ((_, path),) = paths(line_chart(Curve("Loss", [(0, 3.0), (9, 3.0)])))
    assert len({y for _, y in places(path)}) == 1


def test_long_curves_are_thinned_without_a_shift():
    chart = line_chart(Curve("Loss", [(step, step / 10_000) for step in range(10_001)]))
    ((_, path),) = paths(chart)
    points = places(path)
    assert len(points) == MAX_POINTS
    slopes = {round((b[1] - a[1]) / (b[0] - a[0]), 1) for a, b in zip(points[::40], points[40::40], strict=False)}
    assert len(slopes) == 1


def test_noise_is_smoothed_over_the_points_themselves():
    noisy = line_chart(Curve("Loss", [(step, 5 + (-1) ** step) for step in range(200)], noisy=True))
    (raw, jagged), (line, smooth) = paths(noisy)
    assert (raw, line) == ("raw", "line")

    def spread(path):
        heights = [y for _, y in places(path)][20:-20]
        return max(heights) - min(heights)

    assert spread(smooth) < spread(jagged) / 10
