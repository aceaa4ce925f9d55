"""One drawn street: its label space, and the order in which sky, ground, walls and objects are painted.

``streets.py`` tells what is drawn and why.
"""

from typing import Any, NamedTuple

import numpy as np

from polyscale.data.streets.canvas import Canvas, Label
from polyscale.data.streets.layout import View, draw_ground, lay_out, plain_look
from polyscale.data.streets.objects import draw_objects
from polyscale.data.streets.walls import draw_backdrop, draw_treeline, draw_wires
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace

__all__ = ["SMALLEST", "STREETS", "Scene", "checked_size", "draw_scene"]

Array = np.ndarray[Any, np.dtype[np.uint8]]

STREETS = LabelSpace(
    name="streets",
    classes=(
        LabelClass(name="road", color=(128, 64, 128)),
        LabelClass(name="sidewalk", color=(244, 35, 232)),
        LabelClass(name="building", color=(90, 90, 90)),
        LabelClass(name="sky", color=(70, 150, 220)),
        LabelClass(name="pole", color=(240, 240, 160)),
        LabelClass(name="sign", color=(250, 140, 0)),
        LabelClass(name="vegetation", color=(70, 140, 35)),
        LabelClass(name="car", color=(0, 0, 150)),
        LabelClass(name="person", color=(220, 20, 60)),
    ),
)
"""The nine classes of the drawn streets; ``streets_canvas.Label`` names their train ids."""

assert STREETS.names == tuple(label.name.lower() for label in Label)

SMALLEST, LARGEST = 64, 16_384
"""Least and greatest height and width of a scene, in pixels."""


class Scene(NamedTuple):
    """One drawn street.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 train ids 0..8; no pixel is ignored.
    """

    image: Array
    labels: Array


def draw_scene(seed: int, index: int, size: tuple[int, int] = (256, 512)) -> Scene:
    """Draw one street; the same arguments give the same pixels.

    Other releases of Pillow and NumPy may fill a few pixels at the borders of shapes differently, in the image and the
    labels alike.

    Args:
        seed: of the data set, 0 or more.
        index: of the scene in it, 0 or more.
        size: (height, width) in pixels, each 64 or more; odd ones too.

    Raises:
        UserError: a negative seed or index, or a size under 64.

    Example:
        >>> image, labels = draw_scene(seed=0, index=5, size=(64, 96))
        >>> image.shape, labels.shape
        ((64, 96, 3), (64, 96))
    """
    height, width = checked_size(size)
    if seed < 0 or index < 0:
        raise UserError(f"a drawn street needs a seed and an index of 0 or more, got seed {seed} and index {index}")
    rng = np.random.default_rng([seed, index])
    view = View(
        height=height,
        width=width,
        x=width * rng.uniform(0.1, 0.9),
        y=height * rng.uniform(0.4, 0.6),
        camera=rng.uniform(2.2, 3.4),
        unit=min(height, width) / 256,
    )
    canvas = Canvas(height, width)
    sky, texture = plain_look(rng)
    canvas.part(Label.SKY, sky, texture)
    if rng.random() < 0.6:
        draw_treeline(canvas, view, rng)
    street = lay_out(view, rng)
    draw_ground(canvas, view, street, rng)
    draw_backdrop(canvas, view, street, rng, sky)
    if rng.random() < 0.5:
        draw_wires(canvas, view, rng)
    draw_objects(canvas, view, street, rng)
    return Scene(canvas.render(rng), canvas.labels())


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) as plain integers.

    Raises:
        UserError: not two whole numbers from ``SMALLEST`` to ``LARGEST``.
    """
    if len(size) != 2 or any(side != int(side) or not SMALLEST <= side <= LARGEST for side in size):
        raise UserError(
            f"size {tuple(size)} of drawn streets must be (height, width) in whole pixels, each from {SMALLEST} to "
            f"{LARGEST}"
        )
    return int(size[0]), int(size[1])
