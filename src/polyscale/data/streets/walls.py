"""Walls of the drawn streets: rows of buildings along the street and across its end, and the trees on the horizon.

A plain wall has no windows but at its foot or along one edge, so that most of it can only be told from an
overcast sky by looking far. For the same reason lines do not give it away: roofs have an edge line, but plain walls
carry such lines in mid-wall too, and overhead wires cross the sky.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polyscale.data.streets.canvas import Canvas, Color, Label, Material, crown_shapes
from polyscale.data.streets.layout import Street, View, wall_look

__all__ = ["draw_backdrop", "draw_treeline", "draw_wires"]

Project = Callable[[float, float], tuple[float, float]]
"""Metres along a wall and metres over its foot, to a pixel."""


def draw_backdrop(canvas: Canvas, view: View, street: Street, rng: np.random.Generator, sky: Color) -> None:
    """Paint the walls at the street's sides and end, far to near; many plain ones share the colour of the ``sky``."""
    if street.across:
        _draw_front_row(canvas, view, street, rng, sky, street.farthest, gap_chance=0.5)
        return
    if rng.random() < 0.5:
        _draw_front_row(canvas, view, street, rng, sky, street.farthest * rng.uniform(0.5, 1.0), gap_chance=0.55)
    sides = [(street.walks[0][0], -1), (street.walks[-1][1], 1)]
    kept = [side for side in sides if rng.random() < 0.75] or sides[:1]
    for slope, outward in kept:
        _draw_side_row(canvas, view, street, rng, sky, slope, outward)


def draw_wires(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    """Hang wires over the street; their label is that of the sky or the wall behind, as usual in street data."""
    for _ in range(int(rng.integers(1, 4))):
        height, tilt, sag = (
            view.y * rng.uniform(0.05, 0.9),
            view.y * rng.uniform(-0.4, 0.4),
            view.y * rng.uniform(0.02, 0.12),
        )
        xs = np.linspace(-0.05, 1.05, 7).tolist()
        canvas.wire([(x * view.width, height + tilt * (x - 0.5) + sag * 4 * x * (1 - x)) for x in xs])


def draw_treeline(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    """Paint far trees along the horizon; their lower halves are for the ground to cover, so this comes before it."""
    tone = rng.uniform(0.75, 1.3)
    color = (tone * rng.uniform(62, 96), tone * rng.uniform(90, 112), tone * rng.uniform(52, 76))
    part = canvas.part(Label.VEGETATION, color, Material(grain=0.04, leaf=0.12))
    height = view.height * rng.uniform(0.015, 0.08)
    shapes = crown_shapes()
    left = -height
    while left < view.width:
        width, tall = height * rng.uniform(1.8, 3.2), height * rng.uniform(0.7, 1.6)
        if rng.random() < 0.85:
            canvas.stamp(shapes[int(rng.integers(8))], left - 0.2 * width, view.y - tall, 1.4 * width, 2 * tall, part)
        left += width


def _draw_front_row(
    canvas: Canvas, view: View, street: Street, rng: np.random.Generator, sky: Color, drop: float, gap_chance: float
) -> None:
    """Buildings that face the camera at one distance, with gaps through which the sky comes down to the horizon."""
    scale = view.scale(drop)
    left = -rng.uniform(0, 0.25) * view.width
    empty = street.across
    while left < view.width:
        width = rng.uniform(0.12, 0.5 if street.across else 0.3) * view.width
        if rng.random() < gap_chance and not (empty and left + width > 0.7 * view.width):
            left += width * 0.8
            continue
        empty = False
        height = view.y * rng.uniform(0.35, 1.7 if street.across else 1.2) + drop

        def project(along: float, up: float, left: float = left) -> tuple[float, float]:
            return left + along * scale, view.y + drop - up * scale

        _draw_wall(canvas, view, rng, sky, project, width / scale, height / scale)
        if rng.random() < 0.5:
            street.plates.append(
                (left + rng.uniform(0.1, 0.8) * width, view.y + drop - rng.uniform(2.4, 5) * scale, scale)
            )
        left += width


def _draw_side_row(
    canvas: Canvas, view: View, street: Street, rng: np.random.Generator, sky: Color, slope: float, outward: int
) -> None:
    """Buildings along the street, whose fronts run to the vanishing point and whose end walls face the camera."""
    focal = 0.9 * view.height * view.camera
    drop = street.farthest
    edge = (view.width - view.x if outward > 0 else -view.x) / slope
    last = min(max(edge, drop) * 1.3, 3 * view.drop) if edge > 0 else 3 * view.drop
    while drop < last:
        near = drop * rng.uniform(1.5, 3.2)
        height = rng.uniform(5, 9) if rng.random() < 0.25 else rng.uniform(9, 24)
        if rng.random() < 0.8:
            start, length = focal / near, focal / drop - focal / near

            def project(along: float, up: float, start: float = start) -> tuple[float, float]:
                return view.at(slope, focal / (start + along), up)

            def project_end(along: float, up: float, near: float = near) -> tuple[float, float]:
                x, y = view.at(slope, near, up)
                return x + outward * along * view.scale(near), y

            _draw_wall(canvas, view, rng, sky, project, length, height)
            if near < edge:
                _draw_wall(canvas, view, rng, sky, project_end, rng.uniform(8, 14), height, end=True)
            if rng.random() < 0.6:
                x, y = view.at(slope, rng.uniform(drop, near), rng.uniform(2.4, 4.5))
                street.plates.append((x, y, view.scale((drop + near) / 2)))
        drop = near


def _draw_wall(
    canvas: Canvas,
    view: View,
    rng: np.random.Generator,
    sky: Color,
    project: Project,
    length: float,
    height: float,
    end: bool = False,
) -> None:
    """One wall, ``length`` x ``height`` metres, with its windows, doors and lines."""

    def quad(left: float, right: float, low: float, high: float, part: int) -> None:
        canvas.polygon([project(left, low), project(right, low), project(right, high), project(left, high)], part)

    plain, color, material = wall_look(rng, sky)
    quad(0, length, 0, height, canvas.part(Label.BUILDING, color, material))
    tone = rng.uniform(0.6, 0.85) if rng.random() < 0.75 else rng.uniform(1.1, 1.3)
    trim = canvas.part(Label.BUILDING, (color[0] * tone, color[1] * tone, color[2] * tone), material)
    glass_tone = rng.uniform(35, 110)
    glass = canvas.part(Label.BUILDING, (glass_tone, glass_tone * 1.05, glass_tone * 1.12), Material(0.02, 0.08))
    floor, bay = rng.uniform(2.8, 3.6), rng.uniform(2.4, 4.2)
    columns, storeys = min(14, int(length / bay)), min(12, int((height - 0.6) / floor))
    if plain:
        for _ in range(int(rng.integers(0, 3))):
            up = rng.uniform(0.25, 0.95) * height
            canvas.line([project(0, up), project(length, up)], trim)
        if rng.random() < 0.3:
            along = rng.uniform(0.2, 0.8) * length
            canvas.line([project(along, 0), project(along, height)], trim)
        columns_drawn = [0 if rng.random() < 0.5 else columns - 1] if rng.random() < 0.35 else []
        foot = 0 if end and rng.random() < 0.5 else 1
    else:
        columns_drawn, foot = list(range(columns)), 1
    pitch = length / max(columns, 1)
    wide, tall = rng.uniform(0.3, 0.62) * pitch, rng.uniform(0.4, 0.62) * floor
    for column in columns_drawn if columns > 0 else []:
        for storey in range(foot, storeys):
            low = storey * floor + 0.28 * floor
            quad(column * pitch + (pitch - wide) / 2, column * pitch + (pitch + wide) / 2, low, low + tall, glass)
    if foot:
        _draw_foot(canvas, rng, quad, length, min(floor, 0.5 * height), trim, glass)
    for corners in ((0, height, length, height), (0, 0, 0, height), (length, 0, length, height)):
        canvas.line(
            [project(corners[0], corners[1]), project(corners[2], corners[3])], trim, width=max(1, round(view.unit))
        )


def _draw_foot(
    canvas: Canvas,
    rng: np.random.Generator,
    quad: Callable[[float, float, float, float, int], None],
    length: float,
    floor: float,
    trim: int,
    glass: int,
) -> None:
    """The ground floor: doors and shop windows, with a plinth or an awning now and then."""
    door_tone = rng.uniform(0.5, 1.1)
    door = canvas.part(
        Label.BUILDING,
        (door_tone * rng.uniform(40, 140), door_tone * rng.uniform(40, 110), door_tone * rng.uniform(40, 110)),
    )
    if rng.random() < 0.5:
        quad(0, length, 0, 0.12 * floor, trim)
    if rng.random() < 0.3:
        quad(0.05 * length, 0.95 * length, 0.78 * floor, 0.95 * floor, door)
    along = rng.uniform(0.5, 3)
    for _ in range(16):
        shop = rng.random() < 0.5
        wide = rng.uniform(1.5, 3.2) if shop else rng.uniform(0.9, 1.3)
        if along + wide > length:
            break
        quad(along, along + wide, 0.2 * floor if shop else 0.0, 0.72 * floor, glass if shop else door)
        along += wide + rng.uniform(0.6, 5)
