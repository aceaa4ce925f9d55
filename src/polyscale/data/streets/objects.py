"""Objects in the drawn streets: cars, persons, trees, posts and signs, painted far to near.

Posts are one to three pixels wide at 256 x 512 whatever their distance (in proportion at other sizes),
and a part of the signs are plates seen edge-on or street names as thin as that, so that only a fine scale resolves
them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polyscale.data.streets.canvas import Canvas, Color, Label, Material, crown_shapes
from polyscale.data.streets.layout import Street, View

__all__ = ["draw_objects"]

_SIGN_COLORS: tuple[Color, ...] = (
    (196, 30, 36), (28, 72, 172), (232, 190, 30), (24, 122, 70), (240, 240, 236), (214, 96, 24),
)  # fmt: skip
_CAR_COLORS: tuple[Color, ...] = (
    (150, 22, 28), (30, 48, 110), (28, 28, 32), (190, 192, 196), (230, 230, 228), (96, 100, 104), (60, 92, 74),
)  # fmt: skip
Draw = Callable[[Canvas, View, np.random.Generator, float, float], None]


def draw_objects(canvas: Canvas, view: View, street: Street, rng: np.random.Generator) -> None:
    """Paint all objects of one scene where its layout has room for them."""
    for left, top, scale in street.plates:
        wide, tall = rng.uniform(1.0, 2.4) * scale, rng.uniform(0.5, 0.9) * scale
        _draw_plate(canvas, rng, left, top, min(wide, 36 * view.unit), min(tall, 14 * view.unit))
    side_car = street.across
    placed: list[tuple[float, float, Draw]] = []

    def place(count: int, on_road: bool, near: float, draw: Draw) -> None:
        for _ in range(count):
            spot = street.spot(view, rng, on_road, near)
            if spot is not None:
                placed.append((spot[1], spot[0], draw))

    place(int(rng.integers(2, 7)), True, 0.7, _draw_car_side if side_car else _draw_car_end)
    place(int(rng.integers(3, 9)), False, 0.75, _draw_person)
    place(int(rng.integers(0, 3)), True, 0.6, _draw_person)
    place(int(rng.integers(1, 5)), False, 0.6, _draw_tree)
    place(int(rng.integers(0, 3)), False, 0.7, _draw_bush)
    place(int(rng.integers(3, 8)), False, 0.9, _draw_lamp)
    place(int(rng.integers(3, 8)), False, 0.8, _draw_sign_post)
    for drop, x, draw in sorted(placed, key=lambda item: item[0]):
        draw(canvas, view, rng, x, drop)


def _thin(view: View, rng: np.random.Generator, scale: float) -> int:
    """Width of a post in pixels: by its distance and its make, but never under one pixel nor over three units."""
    return int(min(max(1, round(rng.uniform(0.06, 0.14) * scale)), max(1, round(3 * view.unit))))


def _post_part(canvas: Canvas, rng: np.random.Generator) -> int:
    tone = rng.uniform(30, 120) if rng.random() < 0.8 else rng.uniform(170, 215)
    return canvas.part(Label.POLE, (tone, tone * rng.uniform(0.95, 1.03), tone * rng.uniform(0.92, 1.08)))


def _draw_lamp(canvas: Canvas, view: View, rng: np.random.Generator, x: float, drop: float) -> None:
    scale, part = view.scale(drop), _post_part(canvas, rng)
    width, foot = _thin(view, rng, scale), view.y + drop
    if rng.random() < 0.25:
        canvas.box(x, foot - rng.uniform(0.8, 1.3) * scale, x + width, foot, part)
        return
    top = foot - rng.uniform(3.5, 8) * scale
    canvas.box(x, top, x + width, foot, part)
    if rng.random() < 0.5:
        reach = rng.uniform(0.6, 1.8) * scale * (1 if rng.random() < 0.5 else -1)
        canvas.line([(x, top), (x + reach, top - 0.2 * scale)], part)
        canvas.box(
            x + reach - 0.25 * scale,
            top - 0.2 * scale,
            x + reach + 0.25 * scale,
            top - 0.2 * scale + max(1, 0.6 * width),
            part,
        )


def _draw_sign_post(canvas: Canvas, view: View, rng: np.random.Generator, x: float, drop: float) -> None:
    scale, part = view.scale(drop), _post_part(canvas, rng)
    width, foot = _thin(view, rng, scale), view.y + drop
    top = foot - rng.uniform(2.2, 3.6) * scale
    canvas.box(x, top, x + width, foot, part)
    largest = 16 * view.unit
    side = min(rng.uniform(0.6, 1.0) * scale, largest)
    middle = x + width / 2
    kind = rng.random()
    if kind < 0.3:
        _draw_plate(canvas, rng, x + (width if rng.random() < 0.5 else -1), top, _thin(view, rng, scale), 1.4 * side)
    elif kind < 0.5:
        _draw_plate(canvas, rng, middle - rng.uniform(0, 1.2) * side, top, 1.5 * side, _thin(view, rng, 2 * scale))
    elif kind < 0.7:
        rim, face = _sign_parts(canvas, rng)
        canvas.ellipse(middle - side / 2, top - side / 2, middle + side / 2, top + side / 2, rim)
        if side >= 6:
            canvas.ellipse(middle - side / 3.4, top - side / 3.4, middle + side / 3.4, top + side / 3.4, face)
    elif kind < 0.85:
        rim, _ = _sign_parts(canvas, rng)
        canvas.polygon(
            [(middle, top - side / 2), (middle + side * 0.55, top + side / 2), (middle - side * 0.55, top + side / 2)],
            rim,
        )
    else:
        _draw_plate(canvas, rng, middle - side / 2, top - side / 2, side, side * rng.uniform(0.8, 1.4))


def _sign_parts(canvas: Canvas, rng: np.random.Generator) -> tuple[int, int]:
    first, second = rng.choice(len(_SIGN_COLORS), 2, replace=False).tolist()
    flat = Material(0.01, 0.01)
    return canvas.part(Label.SIGN, _SIGN_COLORS[first], flat), canvas.part(Label.SIGN, _SIGN_COLORS[second], flat)


def _draw_plate(canvas: Canvas, rng: np.random.Generator, left: float, top: float, width: float, height: float) -> None:
    rim, face = _sign_parts(canvas, rng)
    canvas.box(left, top, left + width, top + height, rim)
    if width >= 6 and height >= 5:
        canvas.box(left + 1, top + 0.4 * height, left + width - 1, top + 0.6 * height, face)


def _draw_car_end(canvas: Canvas, view: View, rng: np.random.Generator, x: float, drop: float) -> None:
    """A car seen from the front or the rear."""
    scale, foot = view.scale(drop), view.y + drop
    half, tall = rng.uniform(0.85, 0.98) * scale, rng.uniform(1.35, 1.9) * scale
    body, glass, dark, lamp = _car_parts(canvas, rng)
    canvas.shade_ellipse(x - 1.25 * half, foot - 0.25 * scale, x + 1.25 * half, foot + 0.2 * scale)
    for side in (-1, 1):
        middle = x + side * 0.72 * half
        canvas.box(middle - 0.18 * half, foot - 0.35 * scale, middle + 0.18 * half, foot, dark)
    waist = foot - 0.58 * tall
    canvas.box(x - half, waist, x + half, foot - 0.14 * tall, body)
    canvas.polygon(
        [
            (x - 0.96 * half, waist),
            (x - 0.74 * half, foot - tall),
            (x + 0.74 * half, foot - tall),
            (x + 0.96 * half, waist),
        ],
        body,
    )
    pane = foot - 0.93 * tall
    canvas.polygon(
        [(x - 0.82 * half, waist), (x - 0.66 * half, pane), (x + 0.66 * half, pane), (x + 0.82 * half, waist)], glass
    )
    for side in (-1, 1):
        middle = x + side * 0.78 * half
        canvas.box(middle - 0.16 * half, foot - 0.5 * tall, middle + 0.16 * half, foot - 0.38 * tall, lamp)


def _draw_car_side(canvas: Canvas, view: View, rng: np.random.Generator, x: float, drop: float) -> None:
    scale, foot = view.scale(drop), view.y + drop
    length, tall = rng.uniform(3.8, 4.8) * scale, rng.uniform(1.4, 1.8) * scale
    flip = 1 if rng.random() < 0.5 else -1
    body, glass, dark, lamp = _car_parts(canvas, rng)
    canvas.shade_ellipse(x - 0.54 * length, foot - 0.2 * scale, x + 0.54 * length, foot + 0.2 * scale)

    def shape(points: list[tuple[float, float]], part: int) -> None:
        canvas.polygon([(x + flip * along * length, foot - up * tall) for along, up in points], part)

    shape([(-0.5, 0.15), (-0.5, 0.5), (-0.46, 0.58), (0.22, 0.6), (0.48, 0.48), (0.5, 0.15)], body)
    shape([(-0.44, 0.56), (-0.32, 1.0), (0.06, 1.0), (0.24, 0.58)], body)
    shape([(-0.37, 0.6), (-0.29, 0.92), (-0.13, 0.92), (-0.13, 0.6)], glass)
    shape([(-0.1, 0.6), (-0.1, 0.92), (0.04, 0.92), (0.18, 0.6)], glass)
    shape([(0.44, 0.38), (0.44, 0.48), (0.5, 0.46), (0.5, 0.38)], lamp)
    radius = 0.21 * tall
    for along in (-0.3, 0.3):
        middle = x + flip * along * length
        canvas.ellipse(middle - radius, foot - 2 * radius, middle + radius, foot, dark)


def _car_parts(canvas: Canvas, rng: np.random.Generator) -> tuple[int, int, int, int]:
    color = _CAR_COLORS[int(rng.integers(len(_CAR_COLORS)))]
    gain, sheen = rng.uniform(0.8, 1.15), Material(0.02, 0.07)
    body = canvas.part(Label.CAR, (color[0] * gain, color[1] * gain, color[2] * gain), sheen)
    glass = canvas.part(Label.CAR, (48, 56, 64), Material(0.02, 0.15))
    dark = canvas.part(Label.CAR, (22, 22, 24))
    lamp = canvas.part(Label.CAR, (200, 40, 30) if rng.random() < 0.5 else (240, 236, 214))
    return body, glass, dark, lamp


def _draw_person(canvas: Canvas, view: View, rng: np.random.Generator, x: float, drop: float) -> None:
    scale, foot = view.scale(drop), view.y + drop
    tall = rng.uniform(1.4, 1.9) * scale
    clothes = [canvas.part(Label.PERSON, tuple(rng.uniform(20, 200, 3)), Material(0.03, 0.06)) for _ in range(2)]
    skin_tone = rng.uniform(0.45, 1.05)
    skin = canvas.part(Label.PERSON, (skin_tone * 222, skin_tone * 172, skin_tone * 142))
    hair = canvas.part(Label.PERSON, tuple(rng.uniform(20, 90) * np.array([1.0, 0.85, 0.7])))
    stride, broad = rng.uniform(0.02, 0.16) * tall, rng.uniform(0.1, 0.135) * tall
    hip, neck = foot - 0.48 * tall, foot - 0.84 * tall
    canvas.shade_ellipse(x - 0.2 * tall, foot - 0.04 * tall, x + 0.2 * tall, foot + 0.04 * tall)
    for side in (-1, 1):
        shoe = x + side * stride
        inner, outer = (x, x + side * broad * 0.9)
        canvas.polygon(
            [(inner, hip), (outer, hip), (shoe + 0.035 * tall, foot), (shoe - 0.035 * tall, foot)], clothes[0]
        )
    canvas.polygon([(x - broad, hip), (x - 1.25 * broad, neck), (x + 1.25 * broad, neck), (x + broad, hip)], clothes[1])
    swing = rng.uniform(-0.1, 0.1) * tall
    for side in (-1, 1):
        shoulder, hand = x + side * 1.2 * broad, x + side * 1.5 * broad + swing
        thick = 0.025 * tall
        canvas.polygon(
            [
                (shoulder - thick, neck),
                (shoulder + thick, neck),
                (hand + thick, hip - 0.02 * tall),
                (hand - thick, hip - 0.02 * tall),
            ],
            clothes[1],
        )
    head = 0.075 * tall
    canvas.ellipse(x - head, neck - 2.1 * head, x + head, neck + 0.1 * head, skin)
    canvas.ellipse(x - head, neck - 2.2 * head, x + head, neck - 1.2 * head, hair)


def _leaf_parts(canvas: Canvas, rng: np.random.Generator) -> tuple[int, int]:
    tone = rng.uniform(0.7, 1.25)
    color = (tone * rng.uniform(46, 104), tone * rng.uniform(84, 118), tone * rng.uniform(34, 64))
    leaves = Material(grain=0.05, leaf=rng.uniform(0.12, 0.24))
    lit = rng.uniform(0.65, 0.85) if rng.random() < 0.5 else rng.uniform(1.15, 1.35)
    return (
        canvas.part(Label.VEGETATION, color, leaves),
        canvas.part(Label.VEGETATION, (color[0] * lit, color[1] * lit, color[2] * lit), leaves),
    )


def _draw_tree(canvas: Canvas, view: View, rng: np.random.Generator, x: float, drop: float) -> None:
    """A tree; its trunk counts as vegetation, as in the usual street data sets."""
    scale, foot = view.scale(drop), view.y + drop
    bark_tone = rng.uniform(0.6, 1.2)
    bark = canvas.part(Label.VEGETATION, (bark_tone * 84, bark_tone * 68, bark_tone * 54), Material(0.06, 0.06))
    outer, inner = _leaf_parts(canvas, rng)
    thick, trunk = max(1.0, rng.uniform(0.12, 0.24) * scale), rng.uniform(1.8, 3) * scale
    wide, tall = rng.uniform(2.2, 4.6) * scale, rng.uniform(2.2, 4.6) * scale
    canvas.shade_ellipse(x - 0.4 * wide, foot - 0.12 * scale, x + 0.7 * wide, foot + 0.3 * scale)
    canvas.polygon(
        [
            (x - thick, foot),
            (x - 0.6 * thick, foot - trunk - 0.4 * tall),
            (x + 0.6 * thick, foot - trunk - 0.4 * tall),
            (x + thick, foot),
        ],
        bark,
    )
    shapes = crown_shapes()
    top = foot - trunk - tall
    canvas.stamp(shapes[int(rng.integers(8))], x - 0.5 * wide, top, wide, 1.1 * tall, outer)
    canvas.stamp(shapes[8 + int(rng.integers(8))], x - 0.5 * wide, top, wide, 1.1 * tall, inner)


def _draw_bush(canvas: Canvas, view: View, rng: np.random.Generator, x: float, drop: float) -> None:
    scale, foot = view.scale(drop), view.y + drop
    outer, inner = _leaf_parts(canvas, rng)
    wide, tall = rng.uniform(1, 3) * scale, rng.uniform(0.6, 1.4) * scale
    number = int(rng.integers(8))
    for shape, part in ((number, outer), (8 + number, inner)):
        canvas.stamp(crown_shapes()[shape], x - wide / 2, foot - tall, wide, tall * 1.1, part)
