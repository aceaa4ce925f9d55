"""Layout of a drawn street: the sky, the ground with its kerbs, and the walls along or across it.

All geometry is that of a level camera over flat ground, so one number, the ``drop`` of a ground point
below the horizon in pixels, gives both its distance and its scale (``drop / camera`` pixels a metre). Sky and plain
walls take their colour and texture from one and the same distribution, as do road and sidewalk: what tells them apart
is where their edges are and what stands on them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from polyscale.data.streets.canvas import Canvas, Color, Label, Material

__all__ = ["Street", "View", "draw_ground", "lay_out", "plain_look", "wall_look"]

_WALL_COLORS: tuple[Color, ...] = (
    (150, 82, 66), (176, 128, 84), (196, 168, 112), (128, 104, 92),
    (170, 112, 98), (142, 146, 122), (112, 124, 140), (186, 152, 136),
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """The camera.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        x: column of the vanishing point.
        y: row of the vanishing point and of the horizon.
        camera: height of the camera over the ground, in metres.
        unit: width in pixels of the thinnest things; 1 at 256 x 512, in proportion to the shorter side.
    """

    height: int
    width: int
    x: float
    y: float
    camera: float
    unit: float

    @property
    def drop(self) -> float:
        """The horizon's height over the lower edge of the image, in pixels: the largest visible drop."""
        return self.height - self.y

    def scale(self, drop: float) -> float:
        """Pixels a metre at a ground point ``drop`` pixels below the horizon."""
        return drop / self.camera

    def at(self, slope: float, drop: float, metres: float = 0.0) -> tuple[float, float]:
        """Pixel of a point ``metres`` over the ground line of ``slope`` columns a row from the vanishing point."""
        return self.x + slope * drop, self.y + drop - metres * self.scale(drop)


@dataclass
class Street:
    """A finished layout, on which objects are placed.

    ``across`` tells the two layouts apart: lines run to the vanishing point and bands are intervals of slope (False),
    or the camera looks over the street at the houses opposite and bands are intervals of drop (True).
    """

    across: bool
    roads: list[tuple[float, float]]
    walks: list[tuple[float, float]]
    farthest: float
    plates: list[tuple[float, float, float]] = field(default_factory=list)
    """Places for shop signs: left and upper pixel, and pixels a metre."""

    def spot(
        self, view: View, rng: np.random.Generator, on_road: bool, near: float = 0.9
    ) -> tuple[float, float] | None:
        """A random visible ground point (x, drop) on a road or a sidewalk, or None where none was found."""
        bands = self.roads if on_road else self.walks
        for _ in range(6):
            low, high = bands[int(rng.integers(len(bands)))]
            if self.across:
                drop = float(rng.uniform(low, min(high, near * view.drop))) if low < near * view.drop else 0.0
                if drop > 0:
                    return float(rng.uniform(0, view.width)), drop
                continue
            drop = self.farthest + (near * view.drop - self.farthest) * float(rng.uniform()) ** 1.6
            left, right = max(0.0, view.x + low * drop), min(float(view.width), view.x + high * drop)
            if right > left:
                return float(rng.uniform(left, right)), drop
        return None


def plain_look(rng: np.random.Generator) -> tuple[Color, Material]:
    """Colour and texture of an overcast sky or of a plain wall."""
    tone, warmth = rng.uniform(140, 222), rng.normal(0, 7)
    return (tone + warmth, tone, tone - warmth), Material(grain=rng.uniform(0.01, 0.03), mottle=rng.uniform(0.01, 0.04))


def lay_out(view: View, rng: np.random.Generator) -> Street:
    """Road, often a median and a second road, between two sidewalks; the camera may stand on any of them."""
    across = bool(rng.random() < 0.35)
    with_median = rng.random() < 0.65
    if across:
        first = view.drop * rng.uniform(0.16, 0.28)
        rest = view.drop - first
        widths = rng.uniform(0.2, 0.42, 3) * rest if with_median else np.array([rng.uniform(0.45, 0.85) * rest, 0, 0])
    else:
        widths = (
            rng.uniform((0.8, 0.5, 0.8), (1.7, 1.4, 1.7)) if with_median else np.array([rng.uniform(1.2, 2.6), 0, 0])
        )
        first = -rng.uniform(0.1, 0.9) * widths.sum()
    edges = first + np.concatenate([[0.0], np.cumsum(widths)])
    roads = [(float(edges[0]), float(edges[1]))] + ([(float(edges[2]), float(edges[3]))] if with_median else [])
    medians = [(float(edges[1]), float(edges[2]))] if with_median else []
    if across:
        before, after = float(edges[0]) * rng.uniform(0.45, 0.75), view.drop * 1.2
        walks = [(before, float(edges[0])), *medians] + ([(float(edges[-1]), after)] if edges[-1] < view.drop else [])
        return Street(True, roads, walks, before)
    before, after = float(edges[0] - rng.uniform(0.5, 1.6)), float(edges[-1] + rng.uniform(0.5, 1.6))
    return Street(
        False,
        roads,
        [(before, float(edges[0])), *medians, (float(edges[-1]), after)],
        view.drop * rng.uniform(0.06, 0.14),
    )


def draw_ground(canvas: Canvas, view: View, street: Street, rng: np.random.Generator) -> None:
    """Paint roads and sidewalks of one colour and texture, the kerbs between them, lane marks, and shadows."""
    tone, warmth = rng.uniform(78, 140), rng.normal(0, 4)
    color = (tone + warmth, tone, tone - warmth)
    material = Material(grain=rng.uniform(0.03, 0.06), mottle=rng.uniform(0.02, 0.05))
    walk, road = canvas.part(Label.SIDEWALK, color, material), canvas.part(Label.ROAD, color, material)
    bright = tone * rng.uniform(1.25, 1.6)
    kerb = canvas.part(Label.SIDEWALK, (bright, bright, bright), material)
    paint = canvas.part(Label.ROAD, (215, 215, 208), material)
    canvas.box(0, view.y, view.width, view.height, walk)
    dash, gap = rng.uniform(1.5, 4), rng.uniform(2, 6)
    focal = 0.9 * view.height
    for low, high in street.roads:
        _draw_band(canvas, view, street.across, low, high, road)
        middle = (low + high) / 2
        for edge in (low, high):
            _draw_strip(canvas, view, street.across, edge, 0.16, kerb)
        if rng.random() < 0.75:
            distance = focal * view.camera / view.drop * rng.uniform(0.6, 1.2)
            while distance < 60:
                near, far = focal * view.camera / distance, focal * view.camera / (distance + dash)
                if street.across:
                    left = view.x + (distance - 30) * view.scale(middle)
                    _draw_strip(canvas, view, True, middle, 0.14, paint, left, left + dash * view.scale(middle))
                else:
                    side = 0.06 / view.camera
                    canvas.polygon(
                        [view.at(middle + a, d) for a, d in ((-side, near), (side, near), (side, far), (-side, far))],
                        paint,
                    )
                distance += dash + gap
    _cast_shadows(canvas, view, rng)


def _draw_band(canvas: Canvas, view: View, across: bool, low: float, high: float, part: int) -> None:
    if across:
        canvas.box(0, view.y + low, view.width, min(view.height, view.y + high), part)
    else:
        canvas.polygon([(view.x, view.y), view.at(low, view.drop * 1.1), view.at(high, view.drop * 1.1)], part)


def _draw_strip(
    canvas: Canvas, view: View, across: bool, edge: float, metres: float, part: int, left: float = 0, right: float = 1e5
) -> None:
    """A line on the ground, ``metres`` wide, along the street."""
    if across:
        thick = max(1.0, 0.35 * metres * view.scale(edge))
        if edge < view.drop:
            canvas.box(left, view.y + edge - thick / 2, min(right, view.width), view.y + edge + thick / 2, part)
    else:
        half = metres / view.camera / 2
        canvas.line([(view.x, view.y), view.at(edge, view.drop * 1.1)], part)
        canvas.polygon(
            [(view.x, view.y), view.at(edge - half, view.drop * 1.1), view.at(edge + half, view.drop * 1.1)], part
        )


def _cast_shadows(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    if rng.random() < 0.4:
        return
    for _ in range(int(rng.integers(1, 4))):
        drop, lean = view.drop * rng.uniform(0.15, 0.9), rng.uniform(-0.25, 0.25) * view.drop
        thick = drop * rng.uniform(0.1, 0.5)
        left, right = sorted(rng.uniform(-0.4, 1.4, 2) * view.width)
        y = view.y + drop
        canvas.shade(
            [(left, y - lean / 2), (right, y + lean / 2), (right, y + lean / 2 + thick), (left, y - lean / 2 + thick)]
        )


def wall_look(rng: np.random.Generator, sky: Color) -> tuple[bool, Color, Material]:
    """Whether a wall is plain, its colour and its texture; a plain one often has the very tone of this scene's sky."""
    if rng.random() < 0.6:
        color, material = plain_look(rng)
        if rng.random() < 0.7:
            color = (sky[0] + rng.normal(0, 4), sky[1] + rng.normal(0, 4), sky[2] + rng.normal(0, 4))
        return True, color, material
    base = _WALL_COLORS[int(rng.integers(len(_WALL_COLORS)))]
    gain = rng.uniform(0.75, 1.15)
    return False, (base[0] * gain, base[1] * gain, base[2] * gain), Material(grain=rng.uniform(0.03, 0.08), mottle=0.03)
