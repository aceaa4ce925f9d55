"""Line charts as inline SVG, coloured by the page's own style so that they follow dark and light."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from polyscale.report.data import Curve

__all__ = ["line_chart", "nice_ticks"]

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 30
MAX_POINTS = 400
"""A longer curve is drawn as the means of as many stretches: no screen shows more, and the page stays small."""


def line_chart(curve: Curve) -> Markup:
    """Draw a curve; empty text where it has no finite point."""
    points = [(float(x), float(y)) for x, y in curve.points if math.isfinite(x)]
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if not finite:
        return Markup("")
    factor = 100 if curve.kind == "percent" else 1
    points = [(x, y * factor) for x, y in _thinned(points) if x <= finite[-1][0]]
    values = [y for _, y in points if math.isfinite(y)]
    y_ticks = nice_ticks(min(values), max(values), 4)
    x_low, x_high = _start(finite[0][0], finite[-1][0]), finite[-1][0]
    x_ticks = nice_ticks(x_low, x_high, 5)
    y_low, y_high = min(y_ticks[0], *values), max(y_ticks[-1], *values)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1)
        up = (y - y_low) / ((y_high - y_low) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    first, last = finite[0], finite[-1]
    start, end = (f"{y * factor:.3g} at {curve.x_name} {x:g}" for x, y in (first, last))
    words = f"{curve.title}: from {start} to {end}"
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">']
    for tick in y_ticks:
        _, y = place(x_low, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in x_ticks:
        if x_low <= tick <= x_high:
            x, _ = place(tick, y_low)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{_number(tick)}</text>')
    if curve.noisy and len(points) > 20:
        parts.append(f'<path class="raw" d="{_path(points, place)}"/>')
        points = _smoothed(points, max(3, len(points) // 30))
    parts.append(f'<path class="line" d="{_path(points, place)}"/>')
    if len(points) <= 40:
        for x, y in points:
            if math.isfinite(y):
                across, down = place(x, y)
                parts.append(f'<circle class="dot" cx="{across:.1f}" cy="{down:.1f}" r="2.6"/>')
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers, and the one text is escaped above


def _start(first: float, last: float) -> float:
    """Where the axis starts: at 0 if the first step is not far from it, so that the charts of one training line up."""
    return 0.0 if 0 <= first <= 0.25 * last else first


def nice_ticks(low: float, high: float, number: int) -> list[float]:
    """About ``number`` round values around ``low`` to ``high``: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(start, end + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= MAX_POINTS:
        return list(points)
    edges = [round(index * len(points) / MAX_POINTS) for index in range(MAX_POINTS + 1)]
    return [_mean(points[start:end]) for start, end in pairwise(edges)]


def _smoothed(points: Sequence[tuple[float, float]], reach: int) -> list[tuple[float, float]]:
    """Moving average; at the ends over what there is on both sides alike, so that they are not dragged inwards."""
    smooth = []
    for index, (x, y) in enumerate(points):
        side = min(reach, index, len(points) - 1 - index)
        mean = _mean(points[index - side : index + side + 1])[1]
        smooth.append((x, mean if math.isfinite(y) else y))
    return smooth


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    values = [y for _, y in points if math.isfinite(y)]
    return sum(x for x, _ in points) / len(points), sum(values) / len(values) if values else math.nan


def _path(points: Sequence[tuple[float, float]], place: Callable[[float, float], tuple[float, float]]) -> str:
    commands, pen = [], "M"
    for x, y in points:
        if math.isfinite(y):
            across, down = place(x, y)
            commands.append(f"{pen}{across:.1f} {down:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(commands)


def _number(value: float) -> str:
    """A tick's label: 2000 as 2k, 0.05 as it is."""
    if abs(value) >= 1000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return f"{value:g}"
