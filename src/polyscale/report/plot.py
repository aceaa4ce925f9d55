"""Charts of several series as inline SVG; each series is drawn in the page's own style for its name."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from polyscale.report.chart import nice_ticks

__all__ = ["Series", "plot", "thinned"]

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 18, 12, 42
MAX_POINTS = 200

Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "other"
    """Of the line; see ``ways.style``."""
    dots: bool = False
    line: bool = True
    sizes: Sequence[float] | None = None
    """Areas of the dots, as shares of the largest."""


def plot(
    series: Sequence[Series],
    title: str,
    x_name: str,
    y_name: str,
    *,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    square: bool = False,
    identity: str = "",
) -> Markup:
    """Draw lines over common axes; empty text where there is no finite point.

    Args:
        series: what to draw, the last on top.
        title: for those who cannot see it.
        x_name: under the axis.
        y_name: of the axis, for those who cannot see it.
        x_ticks: (place, text); by default round numbers.
        x_range: of the axis; by default that of the points.
        y_range: the same.
        diagonal: draw where y equals x.
        square: as high as wide.
        identity: ``id`` of the picture.
    """
    height = WIDTH - LEFT - RIGHT + TOP + BOTTOM if square else HEIGHT
    points = [point for one in series for point in one.points if all(map(math.isfinite, point))]
    if not points:
        return Markup("")
    x_low, x_high = x_range or (min(x for x, _ in points), max(x for x, _ in points))
    y_marks = nice_ticks(*(y_range or (min(y for _, y in points), max(y for _, y in points))), 4)
    y_low, y_high = y_range or (y_marks[0], y_marks[-1])
    marks = x_ticks or [(tick, _number(tick)) for tick in nice_ticks(x_low, x_high, 4)]

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_low) / ((x_high - x_low) or 1), (y - y_low) / ((y_high - y_low) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), height - BOTTOM - up * (height - TOP - BOTTOM)

    words = f"{title}. {y_name} over {x_name}. " + "; ".join(_told(one) for one in series)
    named = f' id="{escape(identity)}"' if identity else ""
    box = f'viewBox="0 0 {WIDTH} {height}" data-left="{LEFT}" data-right="{WIDTH - RIGHT}"'
    parts = [f'<svg{named} class="plot" {box} role="img" aria-label="{escape(words)}">']
    for tick in y_marks:
        if y_low - 1e-9 <= tick <= y_high + 1e-9:
            _, y = place(x_low, tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick, text in marks:
        if x_low - 1e-9 <= tick <= x_high + 1e-9:
            x, _ = place(tick, y_low)
            parts.append(f'<text x="{x:.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{escape(text)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{height - 5}" text-anchor="middle">{escape(x_name)}</text>')
    if diagonal:
        (x1, y1), (x2, y2) = place(x_low, x_low), place(x_high, x_high)
        parts.append(f'<line class="diagonal" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    for one in series:
        parts += _drawn(one, place)
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 - numbers, and texts that are escaped above


def _drawn(one: Series, place: Place) -> list[str]:
    finite = [(k, *place(x, y)) for k, (x, y) in enumerate(one.points) if math.isfinite(x) and math.isfinite(y)]
    parts = []
    if one.line and len(finite) > 1:
        path = "".join(
            f"{'M' if n == 0 or k != finite[n - 1][0] + 1 else 'L'}{x:.1f} {y:.1f}"
            for n, (k, x, y) in enumerate(finite)
        )
        parts.append(f'<path class="way {one.style}" d="{path}"><title>{escape(one.name)}</title></path>')
    if one.dots or len(finite) == 1:
        for k, x, y in finite:
            radius = 3.4 if one.sizes is None else 2 + 7 * math.sqrt(one.sizes[k])
            parts.append(f'<circle class="way {one.style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')
    return parts


def thinned(points: Sequence[tuple[float, float]], most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most ``most`` points: means of as many stretches, values that are not finite left out."""
    if len(points) <= most:
        return list(points)
    edges = [round(k * len(points) / most) for k in range(most + 1)]
    means = []
    for start, end in pairwise(edges):
        part = [(x, y) for x, y in points[start:end] if math.isfinite(y)]
        if part:
            means.append((sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)))
    return means


def _told(one: Series) -> str:
    known = [(x, y) for x, y in one.points if math.isfinite(y)]
    if not known:
        return f"{one.name}: none"
    if len(known) <= 6:
        return f"{one.name}: {', '.join(f'{y:.3g}' for _, y in known)}"
    return f"{one.name}: from {known[0][1]:.3g} to {known[-1][1]:.3g}"


def _number(value: float) -> str:
    """A tick's label: 2000 as 2k, 0.05 as it is."""
    if abs(value) >= 1000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return f"{value:g}"
